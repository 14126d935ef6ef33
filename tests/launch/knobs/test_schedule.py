"""Which knobs a process gets, and why not the others."""

from typing import Any

import pytest

from launch.host.rt_guard import RtGuard
from launch.host.topology import Topology
from launch.knobs.knob import Knob
from launch.knobs.schedule import FALLBACK, KNOBS, PROCESS_KNOBS, Lack, lacks, schedule_of
from launch.placement.affinity import CoreMap, place
from launch.settings import LaunchSettings
from pipeline.line.placement import STAGES

EIGHT = Topology(tuple(range(8)))
THROTTLED = RtGuard(groups=True)


def of(cores: CoreMap, process: str = "feed", **settings: Any) -> dict[str, int | None]:
    schedule = schedule_of(process, cores, LaunchSettings(**settings))
    return {use.name: use.value for use in schedule.uses}


def test_every_knob_has_a_setting_with_three_values() -> None:
    for name in KNOBS:
        assert LaunchSettings(**{name: "required"}).wish(name) == "required"  # type: ignore[arg-type]
    assert set(FALLBACK) | set(FALLBACK.values()) <= set(KNOBS)


def test_a_stage_alone_on_its_core_has_fifo_and_nice_stands_by() -> None:
    taken = of(place(STAGES, EIGHT))
    assert (taken["affinity"], taken["fifo"], taken["nice"], taken["timer_slack"]) == (1, 50, -10, 1)


@pytest.mark.parametrize("topology", [Topology((0, 1)), Topology((0,)), Topology((0, 1, 2))])
def test_a_shared_core_has_the_normal_scheduler_whatever_the_settings_say(topology: Topology) -> None:
    cores = place(STAGES, topology)
    for wish in ("auto", "required"):
        schedule = schedule_of("strategy", cores, LaunchSettings(fifo=wish, nice=wish))  # type: ignore[arg-type]
        assert (schedule.value("fifo"), schedule.value("nice")) == (None, None)
        assert "is shared" in schedule.declined["fifo"].why


def test_a_spinner_that_the_kernel_would_stop_gets_nice_instead() -> None:
    schedule = schedule_of("feed", place(STAGES, Topology(tuple(range(8)), rt_guard=THROTTLED)), LaunchSettings())
    assert (schedule.value("fifo"), schedule.value("nice")) == (None, -10)
    assert "throttled" in schedule.declined["fifo"].why


def test_a_spinner_that_nothing_would_stop_has_fifo_only_on_an_isolated_core() -> None:
    unguarded = Topology(tuple(range(8)), frozenset({3}), rt_guard=RtGuard(fair_server=False, runtime_us=-1))
    cores = place(STAGES, unguarded)
    assert cores.pollers["feed"].cpu == 3
    assert "fifo" in of(cores, "feed")
    assert "fifo" not in of(cores, "book")


def test_never_is_never_and_is_said() -> None:
    schedule = schedule_of("feed", place(STAGES, EIGHT), LaunchSettings(fifo="never", timer_slack="never"))
    assert not {"fifo", "timer_slack"} & {use.name for use in schedule.uses}
    assert schedule.document()["not_taken"]["fifo"] == 'launch.fifo = "never"'


def test_fifo_is_not_for_a_process_that_is_not_pinned() -> None:
    assert "fifo" not in of(place(STAGES, EIGHT), affinity="never")


def test_memory_is_of_the_cores_node_where_there_are_several() -> None:
    two = Topology(tuple(range(8)), frozenset({5}), nodes={core: core // 4 for core in range(8)}, memory_nodes=2)
    assert of(place(("line",), two), "line")["local_memory"] == 1
    assert "local_memory" not in of(place(STAGES, EIGHT))
    assert not [lack for lack in lacks(place(STAGES, EIGHT), LaunchSettings(local_memory="required")) if lack.required]


def test_memory_is_locked_where_there_is_swap_or_it_is_required() -> None:
    assert "memory_lock" not in of(place(STAGES, EIGHT))
    assert "memory_lock" in of(place(STAGES, EIGHT), memory_lock="required")
    assert "memory_lock" in of(place(STAGES, Topology(tuple(range(8)), swap=True)))


def grant_all_but(monkeypatch: pytest.MonkeyPatch, *refused: str) -> None:
    """A machine that refuses these knobs and no other."""

    def judge(knob: Knob) -> Any:
        return lambda value: f"{value} of {knob.name} refused" if knob.name in refused else None

    for knob in KNOBS.values():
        monkeypatch.setattr(knob, "check", judge(knob))


def told(lack: Lack) -> tuple[str, tuple[str, ...], bool, bool]:
    return lack.knob, lack.processes, lack.required, lack.by_rule


def test_what_is_lacking_is_said_once_for_all_that_lack_it(monkeypatch: pytest.MonkeyPatch) -> None:
    grant_all_but(monkeypatch, "timer_slack")
    (lack,) = lacks(place(STAGES, EIGHT), LaunchSettings())
    assert told(lack) == ("timer_slack", STAGES, False, False)
    assert lack.finding.hint


def test_a_stand_in_lacks_only_where_what_it_stands_in_for_does(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = place(STAGES, EIGHT)
    grant_all_but(monkeypatch, "nice")
    assert lacks(cores, LaunchSettings(nice="required")) == []
    grant_all_but(monkeypatch, "nice", "fifo")
    assert [told(lack)[0] for lack in lacks(cores, LaunchSettings())] == ["fifo", "nice"]


def test_what_is_required_and_ruled_out_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    grant_all_but(monkeypatch)
    lacking = lacks(place(STAGES, Topology((0, 1, 2))), LaunchSettings(fifo="required"))
    assert told(lacking[0]) == ("fifo", STAGES[1:], True, True)
    lacking = lacks(place(("line",), Topology((0, 1), rt_guard=THROTTLED)), LaunchSettings(fifo="required"))
    assert [told(lack) for lack in lacking] == [("fifo", ("line",), True, True)]


def test_the_latency_of_idle_cores_is_the_runs_and_not_a_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    grant_all_but(monkeypatch, "cpu_latency")
    assert "cpu_latency" not in {knob.name for knob in PROCESS_KNOBS}
    cores = place(STAGES, EIGHT)
    assert [told(lack) for lack in lacks(cores, LaunchSettings())] == [("cpu_latency", (), False, False)]
    assert [told(lack)[2] for lack in lacks(cores, LaunchSettings(cpu_latency="required"))] == [True]
    assert lacks(cores, LaunchSettings(cpu_latency="never")) == []
