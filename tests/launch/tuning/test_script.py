"""The shell script does what `pipeline tune` does: on equal trees, with equal files of what was saved."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from launch.host.machine import Machine
from launch.host.mounts import SHMEM_ENABLED
from launch.tuning.boot import boot_advice
from launch.tuning.catalogue import SETTINGS
from launch.tuning.change import apply, revert
from launch.tuning.saved import SAVED, load
from launch.tuning.script import render
from launch.tuning.setting import normal
from launch.tuning.survey import survey
from tests.conftest import REPOSITORY
from tests.launch.fake_machine import CPU, GOOD, SWAP_TITLE, UNTUNED, all_files, machine_of

RENDERED = REPOSITORY / "ops" / "tuning" / "tune.sh"


def script(machine: Machine, verb: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", str(RENDERED), verb], capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"TUNE_ROOT": str(machine.root)} | environment,
    )  # fmt: skip


def values(machine: Machine) -> dict[str, str]:
    files = all_files(machine.root).items()
    return {name: normal(text) for name, text in files if not name.startswith("/run/tickpipe")}


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Machine, Machine]:
    """Two equal ones: for the script, and for us."""
    for name in ("script", "ours"):
        (tmp_path / name).mkdir()
    return machine_of(tmp_path / "script", UNTUNED), machine_of(tmp_path / "ours", UNTUNED)


def test_the_copy_in_ops_is_what_would_be_printed() -> None:
    assert RENDERED.read_text(encoding="utf-8") == render(SETTINGS), "pipeline tune --script > ops/tuning/tune.sh"


def test_every_setting_and_why_is_in_it() -> None:
    text = " ".join(RENDERED.read_text(encoding="utf-8").replace("    # ", "").split())
    for setting in SETTINGS:
        assert f"'{setting.id}'" in text
        assert setting.why in text
        assert setting.trade_off in text


def test_apply_and_revert_are_ours(machines: tuple[Machine, Machine]) -> None:
    theirs, ours = machines
    before = values(theirs)
    assert script(theirs, "apply").returncode == 0
    apply(ours, SETTINGS)
    assert values(theirs) == values(ours)
    assert load(theirs) == load(ours)
    assert script(theirs, "apply").stdout == "", "a second one has nothing to do"
    assert load(theirs) == load(ours)
    assert script(theirs, "revert").returncode == 0
    assert values(theirs) == before
    assert not theirs.path(SAVED).exists()


def test_either_takes_back_what_the_other_made(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    before = values(first)
    script(first, "apply")
    assert {outcome.state for outcome in revert(first)} == {"done"}
    assert values(first) == before
    apply(second, SETTINGS)
    assert script(second, "revert").returncode == 0
    assert values(second) == before


def test_it_shows_what_we_would_show_and_changes_nothing(machines: tuple[Machine, Machine]) -> None:
    machine, _ = machines
    before = all_files(machine.root)
    lines = script(machine, "show").stdout.splitlines()
    assert all_files(machine.root) == before
    for row in survey(machine, SETTINGS):
        line = f"{row.setting.id}: {row.path}: {row.current} -> {row.wanted}"
        assert (line in lines) == (row.state == "differs"), line


def test_what_is_refused_makes_it_exit_4_and_stays_saved(machines: tuple[Machine, Machine]) -> None:
    machine, _ = machines
    path = "/proc/sys/vm/swappiness"
    script(machine, "apply")
    machine.path(path).unlink()
    machine.path(path).symlink_to("/proc/sys/kernel/ostype")
    for verb in ("revert", "apply"):
        done = script(machine, verb)
        assert (done.returncode, f"{path} was refused" in done.stderr) == (4, True), verb
        assert load(machine)[path] == "60"


def test_a_machine_that_is_as_wanted_or_has_nothing_is_left_alone(tmp_path: Path) -> None:
    for name, files in (("good", GOOD), ("empty", {})):
        machine = machine_of(tmp_path / name, files)
        (tmp_path / name).mkdir(exist_ok=True)
        done = script(machine, "apply")
        assert (done.returncode, done.stdout) == (0, ""), done
        assert not machine.path(SAVED).exists()
        assert script(machine, "revert").stdout == "nothing to revert\n"


def test_huge_pages_over_a_quarter_of_memory_are_skipped(tmp_path: Path) -> None:
    machine = machine_of(tmp_path, UNTUNED | {"/proc/meminfo": "MemTotal: 8000000 kB\nHugepagesize: 2048 kB\n"})
    assert "vm.nr_hugepages: skipped" in script(machine, "show").stdout
    script(machine, "apply")
    assert machine.text("/proc/sys/vm/nr_hugepages") == "0"


def test_swap_is_given_back_and_taken_again(tmp_path: Path) -> None:
    machine = machine_of(tmp_path / "root", GOOD | {
        "/proc/swaps": f"{SWAP_TITLE}/dev/sda2 partition 9 0 -2\n/swap\\040file file 9 0 5\n",
    })  # fmt: skip
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("swapoff", "swapon"):
        (tools / tool).write_text(f'#!/bin/sh\necho "{tool} $*" >>"$TUNE_ROOT/log"\n')
        (tools / tool).chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    script(machine, "apply", PATH=path)
    machine_of(machine.root, {"/proc/swaps": SWAP_TITLE})
    script(machine, "revert", PATH=path)
    root = machine.root
    assert (root / "log").read_text().splitlines() == [
        f"swapoff {root}/dev/sda2", f"swapoff {root}/swap file",
        f"swapon {root}/dev/sda2", f"swapon -p 5 {root}/swap file",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "wanted"), [("rw", "huge=within_size"), ("rw,huge=advise", "huge=within_size"), ("rw,huge=always", "")]
)
def test_the_mount_of_segments_is_surveyed_as_we_do_it(options: str, wanted: str, tmp_path: Path) -> None:
    machine = machine_of(tmp_path, GOOD | {"/proc/mounts": f"tmpfs /dev/shm tmpfs {options} 0 0\n"})
    row = next(row for row in survey(machine, SETTINGS) if row.setting.id == "shmem-huge-pages")
    assert row.state == ("differs" if wanted else "same")
    shown = script(machine, "show").stdout
    assert (f"shmem-huge-pages: /dev/shm: {row.current} -> {wanted}" in shown) == bool(wanted)


@pytest.mark.parametrize("files", [{"/proc/mounts": "/dev/vda1 /dev/shm ext4 rw 0 0\n"}, {SHMEM_ENABLED: None}])
def test_without_a_tmpfs_or_its_huge_pages_that_setting_is_skipped(
    files: Mapping[str, str | None], tmp_path: Path
) -> None:
    machine = machine_of(tmp_path, GOOD | files)
    assert "shmem-huge-pages: skipped" in script(machine, "show").stdout


@pytest.mark.parametrize(
    ("siblings", "online", "cores"), [("0", "0-3", "1-3"), ("0-1", "0-3", "2-3"), ("0,2", "0-3", "1,3"), ("0", "0", "")]
)
def test_the_boot_line_isolates_all_but_the_first_physical_core(
    siblings: str, online: str, cores: str, tmp_path: Path
) -> None:
    single = {f"{CPU}/cpu{number}/online": None for number in (1, 2, 3)} if online == "0" else {}
    machine = machine_of(tmp_path, GOOD | single | {
        f"{CPU}/online": online, f"{CPU}/cpu0/topology/thread_siblings_list": siblings,
    })  # fmt: skip
    advice = boot_advice(machine)
    told = re.search(
        r"isolcpus=managed_irq,domain,(\S+) nohz_full=(\S+) rcu_nocbs=(\S+)", script(machine, "show").stdout
    )
    if not cores:
        assert (advice.arguments, told) == ("", None)
        return
    assert advice.arguments == f"isolcpus=managed_irq,domain,{cores} nohz_full={cores} rcu_nocbs={cores}"
    assert told is not None
    listed = {"1-3": "1,2,3", "2-3": "2,3"}.get(cores, cores)
    assert told.groups() == (listed, listed, listed)


def test_a_word_that_is_no_verb_prints_the_usage(tmp_path: Path) -> None:
    done = script(machine_of(tmp_path), "aply")
    assert (done.returncode, "revert" in done.stdout) == (2, True)
