"""`pipeline doctor` and `pipeline tune`: what they print, what they change, and their exit codes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.doctor import SUBJECTS
from launch.host.machine import Machine
from launch.tuning.catalogue import SETTINGS
from launch.tuning.saved import SAVED
from launch.tuning.survey import survey
from pipeline.commands.tune import tune
from pipeline.errors import MachineRefusedError, UsageError
from tests.conftest import REPOSITORY
from tests.launch.fake_machine import UNTUNED, all_files, machine_of
from tests.pipeline.test_cli import pipeline

SWAPPINESS = "/proc/sys/vm/swappiness"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    fake = machine_of(tmp_path, UNTUNED)
    monkeypatch.setattr("launch.host.machine.Machine", lambda: fake)
    return fake


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tune, arguments, standalone_mode=False)


def document(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def test_doctor_prints_one_document_with_a_finding_for_each_subject() -> None:
    done = pipeline("doctor", "--json", "--noise", "10ms")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [finding["id"] for finding in report["findings"]] == [*(one.id for one in SUBJECTS), "noise"]
    for finding in report["findings"]:
        assert set(finding) == {"id", "status", "what", "why", "hint"}
        assert finding["status"] in ("ok", "warn", "bad")
        assert all(finding[key] for key in ("what", "why"))
        assert finding["hint"] or finding["status"] == "ok"
    assert report["noise"]
    assert all({"cpu", "p999_ns", "max_ns"} <= set(core) for core in report["noise"])


def test_doctor_for_people_has_sections_a_noise_table_and_no_colour_when_asked() -> None:
    done = pipeline("doctor", "--noise", "10ms", NO_COLOR="1", FORCE_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert "\x1b[3" not in done.stdout
    for words in ("In order", "Noise", "normal scheduler", "of the gaps", "clock-source"):
        assert words in " ".join(done.stdout.split())


def test_doctor_needs_no_stage() -> None:
    code = (
        "import sys, pipeline.cli as c\n"
        "sys.argv = ['pipeline', 'doctor', '--json', '--noise', '10ms']\n"
        "try: c.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not [name for name in sys.modules if name.startswith('stages')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr


def test_tune_alone_shows_current_wanted_and_why_and_changes_nothing(machine: Machine) -> None:
    before = all_files(machine.root)
    told = document()
    assert all_files(machine.root) == before
    rows = {row["path"]: row for row in told["settings"]}
    assert {row["id"] for row in rows.values()} == {setting.id for setting in SETTINGS}
    row = rows[SWAPPINESS]
    assert (row["current"], row["wanted"], row["state"], bool(row["why"])) == ("60", "1", "differs", True)
    assert "isolcpus=managed_irq,domain,1-3" in told["kernel_command_line"]["arguments"]
    words = " ".join(run().stdout.split())
    for text in ("vm.swappiness 60 → 1", "Over the internet", "Nothing was changed", "never edits the boot loader"):
        assert text in words


def test_tune_applies_reverts_and_says_each_change(machine: Machine) -> None:
    before = all_files(machine.root)
    changes = {change["path"]: change for change in document("--apply")["changes"]}
    assert changes[SWAPPINESS] == {
        "path": SWAPPINESS, "before": "60", "wanted": "1", "state": "done", "note": None,
    }  # fmt: skip
    assert "nothing to change" in run("--apply").stdout
    assert f"{SWAPPINESS}  1 → 60" in run("--revert").stdout
    assert machine.text(SWAPPINESS) == before[SWAPPINESS].strip()
    assert "nothing to revert" in run("--revert").stdout


def test_tune_makes_only_what_was_asked_for(machine: Machine) -> None:
    assert [change["path"] for change in document("--apply", "--only", "vm.swap*")["changes"]] == [SWAPPINESS]
    paths = {change["path"] for change in document("--apply", "--skip", "net.*", "--skip", "irqs*")["changes"]}
    assert paths
    assert not [path for path in paths if "/net/" in path or "/irq/" in path]


def test_a_refusal_ends_with_exit_code_4_and_the_others_are_made(machine: Machine) -> None:
    machine.path(SWAPPINESS).unlink()
    machine.path(SWAPPINESS).symlink_to("/proc/sys/kernel/ostype")
    result = run("--apply")
    assert isinstance(result.exception, MachineRefusedError)
    assert (result.exception.exit_code, SWAPPINESS in str(result.exception)) == (4, True)
    assert f"{SWAPPINESS}  refused" in result.stdout
    assert machine.text("/proc/sys/vm/nr_hugepages") == "1024"
    assert machine.path(SAVED).exists()


@pytest.mark.parametrize(
    "arguments",
    [("--apply", "--revert"), ("--apply", "--script"), ("--only", "nope"), ("--revert", "--only", "vm.swappiness")],
)
def test_contradictions_are_usage_errors(arguments: tuple[str, ...], machine: Machine) -> None:
    before = all_files(machine.root)
    assert isinstance(run(*arguments).exception, UsageError)
    assert all_files(machine.root) == before


def test_the_script_is_printed_for_what_was_chosen() -> None:
    whole, part = run("--script").stdout, run("--script", "--only", "vm.swappiness").stdout
    assert whole == (REPOSITORY / "ops" / "tuning" / "tune.sh").read_text(encoding="utf-8")
    assert ("'vm.swappiness'" in part, "'swap'" in part) == (True, False)


def test_without_root_nothing_is_changed_and_the_exit_code_is_4() -> None:
    """As the user nobody, whatever user runs the tests; what runs is loaded before, since nobody may be unable to
    read this checkout and its environment."""
    left = [row.setting.id for row in survey(Machine(), SETTINGS) if row.state == "differs"]
    if not left:
        pytest.skip("this machine is tuned: there is nothing to be refused")
    code = (
        "import importlib, os, pkgutil, sys, launch.tuning, pipeline.cli as c, pipeline.reports.tuning\n"
        "for found in pkgutil.walk_packages(launch.tuning.__path__, 'launch.tuning.'):\n"
        "    importlib.import_module(found.name)\n"
        "sys.argv = ['pipeline', 'tune', '--json']\n"
        "try: c.main()\n"
        "except SystemExit: sys.stdout.flush()\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.argv = ['pipeline', 'tune', '--apply']\n"
        "c.main()"
    )
    before = Path(SWAPPINESS).read_text()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 4, done.stderr
    assert SAVED in done.stderr or str(Path(SAVED).parent) in done.stderr
    assert f"not made: {left[0]}" in done.stderr
    assert "hint: run it as root" in done.stderr
    assert "Traceback" not in done.stderr
    assert Path(SWAPPINESS).read_text() == before
