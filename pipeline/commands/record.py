"""`pipeline record`: write down what a live run receives."""

import json
import signal
import time
from pathlib import Path

import click

from pipeline.commands.options import Duration, run_name
from pipeline.commands.options import as_json as json_option
from pipeline.errors import CLEAN, UsageError


@click.command()
@run_name
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Where the files go; by default `recording` in the run directory.",
)  # fmt: skip
@click.option("--duration", type=Duration(), metavar="10s", help="Stop after this long; by default with the run.")
@click.option(
    "--rotate-mb", type=click.IntRange(1, 65_536), default=256, show_default=True,
    help="A file larger than this is followed by another.",
)  # fmt: skip
@json_option
def record(run: str, output: Path | None, duration: float | None, rotate_mb: int, as_json: bool) -> int:
    """Record the market data of a live run as captures, which `up --replay` and `verify` read.

    An observer of the feed, which never waits for it: what the observer is too slow for is lost and counted. Ends with
    the run, after --duration, or by Ctrl-C. `-s record.enabled=true` records a run from its first frame.
    """
    from pipeline.asking.find_run import find_live
    from pipeline.recording.process import BYTES_PER_MB
    from pipeline.recording.recorder import Recorder
    from pipeline.run.directory import RunDirectory, runs_folder
    from shm.segment import SegmentError

    live = find_live(run)
    directory = RunDirectory(live.run, runs_folder() / live.run)
    stops: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stops.append(number))
    try:
        market = json.loads(directory.market.read_text(encoding="utf-8"))
        recorder = Recorder(
            live.run, output or directory.recording, rotate_mb * BYTES_PER_MB, market,
            lambda text: click.echo(text, err=True),
        )  # fmt: skip
        if not recorder.wait_attended(lambda: bool(stops)):
            click.echo("the feed is not at work: the recording begins with the first frame of the next", err=True)
        click.echo(f"recording run {live.run} to {output or directory.recording}; Ctrl-C ends it", err=True)
        end_s = None if duration is None else time.monotonic() + duration
        recorder.record(lambda: bool(stops) or (end_s is not None and time.monotonic() >= end_s))
    except SegmentError as error:
        raise UsageError(str(error), "the run has just ended, or is only starting: try again") from None
    except OSError as error:
        raise UsageError(
            f"cannot record: {error}", "give a folder with room that may be written: --output DIR"
        ) from None
    done = recorder.document()
    if as_json:
        click.echo(json.dumps(done))
    else:
        for file in done["files"]:
            click.echo(file)
    lost = f", {done['lost_frames']:,} lost" if done["lost_frames"] else ""
    click.echo(f"{done['frames']:,} frames{lost}; next: pipeline up --replay FILE, or pipeline verify FILE", err=True)
    return CLEAN
