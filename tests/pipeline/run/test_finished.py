"""When a replay is over."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from launch.plan import page_segment
from pipeline.line.agents import AGENT_CLASSES
from pipeline.run import session
from pipeline.run.session import LOST_FRAMES_S, _Session


def test_a_replay_is_over_when_all_is_read_and_nothing_waits_for_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(session, "time", SimpleNamespace(monotonic=lambda: now_s))
    page = np.zeros(1, AGENT_CLASSES["feed"].page())
    segment = SimpleNamespace(view=lambda dtype: page)
    supervisor: Any = SimpleNamespace(segments={page_segment("feed"): segment}, undrained=list)
    run = object.__new__(_Session)
    run.service, run.quiet_since_s, run.rest_seen = SimpleNamespace(latest={}), None, (0, 0)  # type: ignore[assignment]

    def finished(frames: int, holding: int) -> str | None:
        page["counters"]["frames"], page["counters"]["holding"] = frames, holding
        return run._finished(supervisor)

    assert finished(5, 0) is None
    run.service.latest["replay_finished"] = {"stream_messages": 5}  # type: ignore[union-attr]
    assert finished(4, 0) is None
    assert finished(5, 3) is None
    assert finished(5, 0) == "replay finished and drained"
    for frames, holding, why in ((4, 0, "1 frames never arrived"), (5, 3, "3 messages wait for a snapshot")):
        assert finished(frames, holding) is None
        now_s += 0.9 * LOST_FRAMES_S
        assert finished(frames, holding) is None
        now_s += 0.2 * LOST_FRAMES_S
        assert why in str(finished(frames, holding))
