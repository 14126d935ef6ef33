"""A verb's question to a live run, and what the user is told when there is no answer."""

from typing import Any

from launch.control.client import GoneError, HangsError, ask
from launch.control.protocol import ControlError
from pipeline.asking.find_run import find_live
from pipeline.errors import AnsweredError, PipelineError
from pipeline.run.directory import LiveRun


def ask_run(run: str, verb: str, **arguments: str) -> dict[str, Any]:
    """The answer of the live run of that name or id. Raises PipelineError."""
    return ask_live(find_live(run), verb, **arguments)


def ask_live(live: LiveRun, verb: str, **arguments: str) -> dict[str, Any]:
    """The answer of a live run. Raises PipelineError."""
    if live.control is None:
        raise PipelineError(f"{live.words}, is still starting", "ask again when it trades; `pipeline down` ends it")
    try:
        return ask(live.control, verb, arguments)
    except HangsError as error:
        raise PipelineError(f"{live.words}: {error}", hung_hint(live)) from None
    except GoneError as error:
        find_live(live.run)  # which says so when it has ended meanwhile
        raise PipelineError(f"{live.words}: {error}", f"`kill -INT {live.pid}` stops it in order") from None
    except ControlError as error:
        raise AnsweredError(str(error), error.hint, error.exit_code) from None


def hung_hint(live: LiveRun) -> str:
    """What to do about a supervisor that does not react."""
    return (
        f"if it was suspended, `kill -CONT {live.pid}` wakes it; `kill -KILL {live.pid}` ends it: the router then "
        "cancels its orders and leaves, and the next `pipeline up` removes what is left"
    )
