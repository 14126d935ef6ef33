"""The text of `poll_strategy`, for the generated line module.

Numba finds a compiled function on disk again only when it calls what it calls by global name: no closures, no functions
as arguments. So the poll, which calls the user's handlers, is text that is written into a module of its own, in a
folder named by the hash of the strategy's files.
"""

from stages.strategy.loader import PARAMETERS_TYPE, Strategy

_HEAD = """\
from pathlib import Path as _Path

from shm.kernel import routine as _routine
from stages.strategy import kernel as _strategy
from stages.strategy.loader import load as _load_strategy

STRATEGY = _load_strategy(_Path({path!r}))
_Parameters = STRATEGY.module.{parameters_type}
"""

_HANDLER = "_{name} = STRATEGY.module.{name}\n"

_POLL = """

@_routine
def poll_strategy(context, now_ns):
    handled = 0
    parameters = _Parameters({parameters})
    is_deciding = context.engine[0]["is_deciding"] != 0
    for _ in range(_strategy.BATCH):
        if not _strategy.take_report(context):
            break
        if is_deciding and _strategy.is_for_handler(context):
            {on_report}
        if _strategy.is_taking_over(context):
            _strategy.take_over(context, {has_on_restart})
            if is_deciding:
                {on_restart}
        _strategy.finish_report(context)
        handled += 1
    for _ in range(_strategy.BATCH):
        if not _strategy.take_notice(context):
            break
        if is_deciding:
            if _strategy.is_trade(context):
                {on_trade}
            else:
                {on_book}
        _strategy.finish_notice(context)
        handled += 1
    if context.engine[0]["unwanted_id"] != 0:
        handled += _strategy.cancel_unwanted(context, _strategy.user_context(context, parameters, now_ns))
    if handled == 0:
        _strategy.rest(context)
        _strategy.keep_warm(context, now_ns)
    return handled
"""

_EVENTS = {"on_report": "report_event", "on_trade": "trade_event", "on_book": "book_event"}


def poll_source(strategy: Strategy) -> str:
    """Python source of a module part that defines `poll_strategy(context, now_ns) -> int`.

    All names it defines but `poll_strategy` and `STRATEGY` start with an underscore. A handler that raises leaves
    nothing published and its input unread; the exception reaches the caller of the compiled loop.
    """
    calls = {
        name: f"_{name}(_strategy.user_context(context, parameters, now_ns), _strategy.{event}(context))"
        if name in strategy.handlers
        else "pass"
        for name, event in _EVENTS.items()
    }
    handlers = "".join(_HANDLER.format(name=name) for name in strategy.handlers)
    values = ", ".join(f"context.parameters[{index}]" for index in range(max(1, len(strategy.parameters))))
    has_on_restart = "on_restart" in strategy.handlers
    on_restart = "_on_restart(_strategy.user_context(context, parameters, now_ns))" if has_on_restart else "pass"
    head = _HEAD.format(path=str(strategy.path), parameters_type=PARAMETERS_TYPE)
    return (
        head + handlers + _POLL.format(parameters=values, has_on_restart=has_on_restart, on_restart=on_restart, **calls)
    )
