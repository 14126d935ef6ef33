"""The systemd units: equal to what is kept in ops/systemd, true to the plan, and understood by systemd."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from launch.host.topology import Topology
from pipeline.cli import cli
from pipeline.config.tree import Config, load
from pipeline.exporters.systemd import REFERENCE_CORES, quoted, render
from pipeline.line.placement import placed
from pipeline.reports.dry_run import plan_of
from tests.conftest import REPOSITORY

UNITS = REPOSITORY / "ops" / "systemd"
AGAIN = "pipeline export systemd --reference --output ops/systemd"


def units(config: Config, topology: Topology, program: Path = Path(sys.executable)) -> dict[str, str]:
    cores = placed(config, topology)
    return render(config, cores, plan_of(config, cores), program, None)


def service(config: Config, topology: Topology) -> list[str]:
    return next(text for name, text in units(config, topology).items() if name.endswith(".service")).splitlines()


def test_the_units_kept_are_what_the_command_renders() -> None:
    done = CliRunner().invoke(cli, ["export", "systemd", "--reference", "--json"], standalone_mode=False)
    rendered = json.loads(done.stdout)["units"]
    kept = {path.name: path.read_text(encoding="utf-8") for path in UNITS.iterdir()}
    assert kept == rendered, f"run: {AGAIN}"


def test_a_second_rendering_is_written_over_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        done = CliRunner().invoke(
            cli, ["export", "systemd", "--reference", "--output", str(tmp_path / "units")], standalone_mode=False
        )
        assert done.exception is None
        assert done.stdout == ""
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "units").iterdir()}
    assert written == {path.name: path.read_text(encoding="utf-8") for path in UNITS.iterdir()}


def test_systemd_has_time_for_the_whole_stop_sequence() -> None:
    config = load(None, ["launch.quiet_deadline_s=100", "launch.drain_deadline_s=50"]).config
    topology = Topology(tuple(range(REFERENCE_CORES)))
    plan = plan_of(config, placed(config, topology))
    allowed = next(line for line in service(config, topology) if line.startswith("TimeoutStopSec="))
    assert int(allowed.partition("=")[2]) > plan.stop_limit_s > 150


def test_the_limits_are_those_that_the_plan_asks_for() -> None:
    own = service(load(None, ["launch.fifo_priority=7"]).config, Topology(tuple(range(6)), swap=True))
    assert {"LimitRTPRIO=7", "LimitNICE=-10", "LimitMEMLOCK=infinity", "CPUAffinity=0-5"} <= set(own)
    shared = service(load().config, Topology((0, 1)))
    assert not [line for line in shared if line.startswith(("LimitRTPRIO", "LimitNICE", "LimitMEMLOCK"))]


def test_other_services_are_kept_off_cores_that_are_not_isolated() -> None:
    config = load(None, ["launch.placement=packed"]).config
    assert units(config, Topology((0, 1, 2)))["tickpipe-keep-off.conf"].endswith("AllowedCPUs=0,2\n")
    assert "tickpipe-keep-off.conf" not in units(config, Topology((0, 1, 2), frozenset({2})))
    assert "tickpipe-keep-off.conf" not in units(load().config, Topology((0, 1)))


def test_runs_of_other_names_have_units_of_their_own_and_no_slice_below_anothers() -> None:
    config = load(None, ['run.name="a-b"']).config
    assert set(units(config, Topology((0, 1)))) == {"tickpipe-a-b.service", "tickpipe_a_b.slice"}
    assert "Slice=tickpipe_a_b.slice" in service(config, Topology((0, 1)))


@pytest.mark.parametrize(
    ("word", "text"),
    [("/a/b.toml", "/a/b.toml"), ("/100%/$x", "/100%%/$$x"), ("/a b", '"/a b"'), ('/a"\\b', '"/a\\"\\\\b"')],
)
def test_words_of_a_command_are_quoted_as_systemd_reads_them(word: str, text: str) -> None:
    assert quoted(word) == text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    file = tmp_path / "my line 100%.toml"
    file.write_text("[launch]\nplacement = 'packed'\n")
    config = load(file).config
    cores = placed(config, Topology(tuple(range(REFERENCE_CORES)), swap=True))
    rendered = render(config, cores, plan_of(config, cores), Path(sys.executable), file)
    paths = []
    for name, text in rendered.items():
        (tmp_path / name).write_text(text)
        paths += [str(tmp_path / name)] if not name.endswith(".conf") else []
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tickpipe" not in done.stderr
