"""Apply and revert on a tree of files: exactly what was there comes back, whatever happens in between."""

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.errors import MachineError
from launch.host.machine import Machine
from launch.host.mounts import SHM, SHMEM_ENABLED
from launch.tuning import places, saved
from launch.tuning.catalogue import SETTINGS
from launch.tuning.change import apply, revert
from launch.tuning.places import Place
from launch.tuning.saved import BOOT_ID, SAVED
from launch.tuning.script import render
from launch.tuning.setting import Setting, goal, normal
from launch.tuning.survey import survey
from tests.conftest import REPOSITORY
from tests.launch.fake_machine import CPU, SWAP_TITLE, UNTUNED, all_files, machine_of

SWAPPINESS = "/proc/sys/vm/swappiness"
PAGES = "/proc/sys/vm/nr_hugepages"
SWAPPINESS_ONLY = [one for one in SETTINGS if one.id == "vm.swappiness"]


def written(text: str) -> str:
    """A plain file keeps what was written; a kernel file of alternatives would show them again."""
    return normal(text)


def values(root: Path) -> dict[str, str]:
    return {name: written(text) for name, text in all_files(root).items() if not name.startswith("/run/tickpipe")}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return machine_of(tmp_path, UNTUNED)


def test_ids_are_unique_and_every_setting_says_why() -> None:
    assert len({one.id for one in SETTINGS}) == len(SETTINGS)
    assert all(one.why and one.path.startswith("/") for one in SETTINGS)


def test_a_survey_changes_nothing_and_tells_what_would(machine: Machine) -> None:
    before = all_files(machine.root)
    rows = {row.path: row for row in survey(machine, SETTINGS)}
    assert all_files(machine.root) == before
    assert (rows[SWAPPINESS].current, rows[SWAPPINESS].wanted, rows[SWAPPINESS].state) == ("60", "1", "differs")
    assert rows["/proc/sys/net/core/wmem_max"].state == "same", "what is larger stays"
    assert rows["/proc/sys/net/ipv4/tcp_wmem"].wanted == "8192 65536 99999999", "each number by itself"
    assert rows[f"{CPU}/cpufreq/policy10/scaling_governor"].current == "schedutil"


def test_apply_makes_everything_and_revert_restores_exactly(machine: Machine) -> None:
    before = values(machine.root)
    outcomes = apply(machine, SETTINGS)
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert [row for row in survey(machine, SETTINGS) if row.state == "differs"] == []
    assert {outcome.state for outcome in revert(machine)} == {"done"}
    assert values(machine.root) == before
    assert not machine.path(SAVED).exists()


def test_a_second_apply_changes_nothing_and_keeps_the_first_values(machine: Machine) -> None:
    apply(machine, SETTINGS)
    first = machine.path(SAVED).read_text()
    assert apply(machine, SETTINGS) == []
    assert machine.path(SAVED).read_text() == first


def test_an_apply_on_top_of_an_apply_keeps_the_original_values(machine: Machine) -> None:
    before = values(machine.root)
    apply(machine, SWAPPINESS_ONLY)
    machine.path(SWAPPINESS).write_text("33\n")  # somebody else's hand in between
    apply(machine, SETTINGS)
    assert machine.path(SWAPPINESS).read_text() == "1\n"
    revert(machine)
    assert values(machine.root) == before


def test_what_is_saved_is_for_root_alone_and_never_half_written(machine: Machine) -> None:
    apply(machine, SETTINGS)
    path = machine.path(SAVED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_nothing_is_touched_when_the_present_values_cannot_be_saved(machine: Machine) -> None:
    machine.path("/run/tickpipe").write_text("in the way")
    before = all_files(machine.root)
    with pytest.raises(MachineError, match="nothing is changed"):
        apply(machine, SETTINGS)
    assert all_files(machine.root) == before


def test_values_are_saved_before_the_first_is_written(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        assert f"{SWAPPINESS} 60\n" in machine.path(SAVED).read_text()
        raise KeyboardInterrupt

    before = values(machine.root)
    monkeypatch.setattr(Place, "write", refuse)
    with pytest.raises(KeyboardInterrupt):
        apply(machine, SETTINGS)
    monkeypatch.undo()
    revert(machine)
    assert values(machine.root) == before


def test_what_the_kernel_refuses_is_reported_alone_and_stays_saved(machine: Machine) -> None:
    """A file of /proc that even root may not write stands in for the setting."""
    machine.path(SWAPPINESS).unlink()
    machine.path(SWAPPINESS).symlink_to("/proc/sys/kernel/ostype")
    outcomes = {outcome.path: outcome for outcome in apply(machine, SETTINGS)}
    assert outcomes[SWAPPINESS].state == "refused"
    assert "ermi" in outcomes[SWAPPINESS].note
    assert {outcome.state for path, outcome in outcomes.items() if path != SWAPPINESS} == {"done"}
    assert {outcome.state for outcome in revert(machine)} == {"done"}, "what was never changed needs no restoring"


def test_a_revert_that_is_refused_keeps_that_value_and_can_be_repeated(machine: Machine) -> None:
    before = values(machine.root)
    apply(machine, SETTINGS)
    machine.path(SWAPPINESS).unlink()
    machine.path(SWAPPINESS).symlink_to("/proc/sys/kernel/ostype")
    assert [outcome.path for outcome in revert(machine) if outcome.state == "refused"] == [SWAPPINESS]
    assert saved.load(machine) == {SWAPPINESS: "60"}
    machine.path(SWAPPINESS).unlink()
    machine.path(SWAPPINESS).write_text("1\n")
    assert [outcome.state for outcome in revert(machine)] == ["done"]
    assert values(machine.root) == before


def test_an_interrupt_that_the_kernel_keeps_is_no_failure(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Place.write

    def fixed(place: Place, text: str) -> None:
        if place.path == "/proc/irq/9/smp_affinity_list":
            raise OSError(5, "Input/output error")
        write(place, text)

    monkeypatch.setattr(Place, "write", fixed)
    outcomes = {outcome.path: outcome.state for outcome in apply(machine, SETTINGS)}
    assert outcomes["/proc/irq/9/smp_affinity_list"] == "fixed"
    assert {outcome.state for outcome in revert(machine)} == {"done"}


def test_fewer_huge_pages_than_asked_for_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Place.write
    monkeypatch.setattr(Place, "write", lambda place, text: write(place, "700" if place.path == PAGES else text))
    outcomes = {outcome.path: outcome for outcome in apply(machine, SETTINGS)}
    assert (outcomes[PAGES].state, outcomes[PAGES].note) == ("refused", "the kernel made it 700")


@pytest.mark.parametrize(
    ("files", "path", "note"),
    [
        ({"/proc/sys/net/ipv4/tcp_low_latency": None}, "/proc/sys/net/ipv4/tcp_low_latency", "lacking"),
        ({"/proc/meminfo": "MemTotal: 8000000 kB\nHugepagesize: 2048 kB\n"}, PAGES, "over a quarter"),
        ({"/proc/meminfo": None}, PAGES, "cannot be read"),
        ({"/proc/swaps": f"{SWAP_TITLE}/x\\040(deleted) file 9 0 -2\n"}, "/proc/swaps", "deleted"),
        ({"/proc/mounts": "devtmpfs /dev devtmpfs rw 0 0\n"}, SHM, "no tmpfs is mounted"),
        ({"/proc/mounts": "/dev/vda1 /dev/shm ext4 rw 0 0\n"}, SHM, "no tmpfs is mounted"),
        ({SHMEM_ENABLED: None, "/proc/mounts": "tmpfs /dev/shm tmpfs rw 0 0\n"}, SHM, "no huge pages in a tmpfs"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_named_as_skipped(
    files: Mapping[str, str | None], path: str, note: str, tmp_path: Path
) -> None:
    machine = machine_of(tmp_path, UNTUNED | files)
    row = next(row for row in survey(machine, SETTINGS) if row.path == path)
    assert (row.state, note in row.note) == ("skipped", True), row
    assert path not in {outcome.path for outcome in apply(machine, SETTINGS)}


def test_a_machine_without_any_of_the_files_is_left_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert {row.state for row in survey(machine, SETTINGS)} == {"skipped"}
    assert apply(machine, SETTINGS) == []
    assert revert(machine) == []
    assert not machine.path(SAVED).exists()


def test_values_of_an_earlier_boot_are_not_restored(machine: Machine) -> None:
    apply(machine, SETTINGS)
    machine_of(machine.root, UNTUNED | {BOOT_ID: "boot-2\n", SWAPPINESS: "77\n"})
    assert revert(machine) == []
    assert machine.path(SWAPPINESS).read_text() == "77\n"
    apply(machine, SETTINGS)
    assert saved.load(machine)[SWAPPINESS] == "77"


def test_a_file_that_others_may_write_is_not_believed(machine: Machine) -> None:
    apply(machine, SETTINGS)
    machine.path(SAVED).chmod(0o666)
    with pytest.raises(MachineError, match="not written by this user alone"):
        revert(machine)


def test_a_device_that_is_gone_is_said(machine: Machine) -> None:
    apply(machine, SETTINGS)
    machine.path("/proc/irq/10/smp_affinity_list").unlink()
    states = {outcome.path: outcome.state for outcome in revert(machine)}
    assert states["/proc/irq/10/smp_affinity_list"] == "gone"
    assert not machine.path(SAVED).exists()


def test_swap_areas_are_given_back_and_taken_again_with_their_priorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    areas = {"/dev/sda2": -2, "/swap file": 5}

    def show() -> None:
        lines = [f"{name.replace(' ', chr(92) + '040')} file 9 0 {priority}\n" for name, priority in areas.items()]
        machine_of(tmp_path, {"/proc/swaps": SWAP_TITLE + "".join(lines)})

    class Calls:
        @staticmethod
        def swapoff(path: bytes) -> int:
            del areas[os.fsdecode(path).removeprefix(str(tmp_path))]
            show()
            return 0

        @staticmethod
        def swapon(path: bytes, flags: int) -> int:
            areas[os.fsdecode(path).removeprefix(str(tmp_path))] = flags & 0x7FFF if flags & 0x8000 else -2
            show()
            return 0

    show()
    machine = Machine(tmp_path)
    before = machine.text("/proc/swaps")
    monkeypatch.setattr(places, "_libc", Calls)
    assert [outcome.state for outcome in apply(machine, SETTINGS)] == ["done"]
    assert areas == {}
    assert [outcome.state for outcome in revert(machine)] == ["done"]
    assert machine.text("/proc/swaps") == before


@pytest.mark.parametrize(
    ("options", "state"),
    [("rw", "differs"), ("rw,huge=advise,size=9k", "differs"), ("rw,huge=within_size", "same"),
     ("rw,huge=always", "same")],
)  # fmt: skip
def test_segments_have_huge_pages_by_either_of_two_options_of_the_mount(
    options: str, state: str, tmp_path: Path
) -> None:
    mounts = f"tmpfs /dev/shm tmpfs rw,huge=always 0 0\ntmpfs /dev/shm tmpfs {options} 0 0\n"
    machine = machine_of(tmp_path, UNTUNED | {"/proc/mounts": mounts})
    row = next(row for row in survey(machine, SETTINGS) if row.setting.id == "shmem-huge-pages")
    assert row.state == state, "the mount on top counts"
    if state == "differs":
        assert row.wanted == "huge=within_size"


def test_a_mount_that_is_refused_is_told_in_the_words_of_mount(tmp_path: Path) -> None:
    """The folder of a made-up machine is no mount point."""
    machine = machine_of(tmp_path, UNTUNED | {"/proc/mounts": "tmpfs /dev/shm tmpfs rw 0 0\n"})
    outcome = next(outcome for outcome in apply(machine, SETTINGS) if outcome.path == SHM)
    assert (outcome.state, outcome.before, "mount" in outcome.note) == ("refused", "huge=never", True)
    assert saved.load(machine)[SHM] == "huge=never"


REMOUNTED = """
mount -t tmpfs -o nosuid,nodev,size=1m tmpfs /dev/shm && mount -t tmpfs tmpfs /run || exit 77
mount -o remount,huge=within_size /dev/shm && mount -o remount,huge=never /dev/shm || exit 77
state() { grep ' /dev/shm ' /proc/mounts | tail -n 1; }
state; eval "$1"; state; eval "$1"; state; eval "$2"; state
"""
"""Within a mount namespace of its own: the options of /dev/shm before, after each of two applies, after a revert."""
OURS = (
    "from launch.host.machine import Machine; from launch.tuning.change import apply, revert; "
    "from launch.tuning.catalogue import SETTINGS; "
)
IDS = '[one for one in SETTINGS if one.id == "shmem-huge-pages"]'


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize(
    ("how", "make", "undo"),
    [
        ("ours", f"{sys.executable} -c '{OURS} apply(Machine(), {IDS})'",
         f"{sys.executable} -c '{OURS} revert(Machine())'"),
        ("the script's", "sh $TUNE apply", "sh $TUNE revert"),
    ],
)  # fmt: skip
def test_a_real_mount_takes_huge_pages_and_has_back_what_it_had(how: str, make: str, undo: str, tmp_path: Path) -> None:
    script = tmp_path / "tune.sh"
    script.write_text(render(one for one in SETTINGS if one.id == "shmem-huge-pages"))
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", REMOUNTED, "", make, undo],
        cwd=REPOSITORY, env=os.environ | {"TUNE": str(script)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no mount of huge pages here: {done.stderr}")
    before, once, twice, after = (line for line in done.stdout.splitlines() if line.startswith("tmpfs "))
    assert once == twice == before.replace("size=1024k", "size=1024k,huge=within_size"), (how, done)
    assert after == before, how
    assert "nosuid,nodev" in before


@given(st.lists(st.integers(0, 2**40), min_size=3, max_size=3))
def test_numbers_are_raised_and_never_lowered(have: list[int]) -> None:
    setting = Setting("x", "/x", "4096 131072 26214400", "because", "at_least")
    wanted = [int(word) for word in goal(setting, " ".join(map(str, have))).split()]
    assert wanted == [max(pair) for pair in zip(have, (4096, 131072, 26214400), strict=True)]
    assert goal(setting, " ".join(map(str, wanted))).split() == [str(number) for number in wanted]


@pytest.mark.parametrize(
    ("mask", "wanted"), [("1", "1"), ("00000000,00000001", "00000000,00000001"), ("3", "1"), ("?", "1")]
)
def test_masks_are_compared_as_numbers(mask: str, wanted: str) -> None:
    assert goal(Setting("x", "/x", "1", "because", "mask"), mask) == wanted


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change a sysctl")
def test_a_real_setting_of_this_machine_is_made_and_restored(tmp_path: Path) -> None:
    """vm.swappiness, through the kernel; what is saved lies in a folder of the test's own."""
    real = Path(SWAPPINESS)
    before = real.read_text()
    (tmp_path / "proc/sys").mkdir(parents=True)
    (tmp_path / "proc/sys/vm").symlink_to("/proc/sys/vm")
    machine = Machine(tmp_path)
    wanted = "11" if before.strip() != "11" else "12"
    setting = Setting("vm.swappiness", SWAPPINESS, wanted, "a test")
    try:
        try:
            outcomes = apply(machine, [setting])
        finally:
            restored = revert(machine)
        if outcomes[0].state == "refused":
            pytest.skip(f"root may not write {real} here: {outcomes[0].note}")
        assert (outcomes[0].state, outcomes[0].before) == ("done", before.strip())
        assert [outcome.state for outcome in restored] == ["done"]
        assert real.read_text() == before
    finally:
        if real.read_text() != before:
            real.write_text(before)
