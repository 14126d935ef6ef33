"""Parts of the composition that need no line."""

from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest

from pipeline.line.compiled import _learn_types
from stages.duty import new_duty


def test_the_arguments_of_a_loop_are_learnt_and_nothing_runs() -> None:
    """Numba asks `typeof_pyval` for each argument of a type that it has not seen in this process or its parents."""

    def run(context: Any, duty: Any, attention: int, slice_ns: int) -> int:
        context[0]["ran"][0] += 1
        return int(context[0]["ran"][0])

    agent: Any = SimpleNamespace(context=(np.zeros(1, [("ran", np.int64), ("only here", np.int16)]),))
    loop = numba.njit(run)
    duty = new_duty(1, "spin")
    loop.compile((numba.typeof(agent.context), numba.typeof(duty), numba.types.int64, numba.types.int64))
    loop.disable_compile()
    asked: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        ask = loop.typeof_pyval
        patch.setattr(type(loop), "typeof_pyval", lambda self, value: asked.append(value) or ask(value))
        _learn_types(loop, [agent], {})
        assert asked
        assert agent.context[0]["ran"][0] == 0
        asked.clear()
        assert loop(agent.context, duty, 0, 1) == 1
    assert asked == []
