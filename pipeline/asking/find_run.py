"""Which run `--run` means: by its name or its id."""

from pipeline.errors import UsageError
from pipeline.run.directory import LiveRun, RunDirectory, live_runs, runs_folder


def find_live(name: str) -> LiveRun:
    """The live run of that name or id. Raises UsageError naming those that live."""
    living = live_runs()
    for live in living:
        if name in (live.name, live.run):
            return live
    raise _none(f"no run {name!r} lives", living)


def find_directory(name: str) -> RunDirectory:
    """Of the live run of that name or id; else of an ended one, of several the newest. Raises UsageError."""
    living = live_runs()
    for live in living:
        if name in (live.name, live.run):
            return RunDirectory(live.run, runs_folder() / live.run)
    ended = [path for path in runs_folder().glob("*/") if name in (path.name, path.name.rsplit("-", 2)[0])]
    if not ended:
        raise _none(f"no run {name!r} lives or has left anything", living)
    newest = max(ended, key=lambda path: path.name.rsplit("-", 2)[1:])
    return RunDirectory(newest.name, newest)


def _none(text: str, living: list[LiveRun]) -> UsageError:
    if not living:
        return UsageError(text, "no run lives at all; `pipeline up` starts one")
    return UsageError(text, f"alive now: {', '.join(live.run for live in living)}; --run takes a name or an id")
