"""`pipeline verify`: a user's own recordings through the line's decoders and books."""

import json
import logging
from pathlib import Path

import click

from pipeline.commands.options import as_json as json_option
from pipeline.errors import CLEAN, DIFFERENCE


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="FILE...")
@click.option(
    "--format", "file_format", type=click.Choice(["binance", "lobster", "itch", "raw"]),
    help="Of all the files; by default it is told from their content.",
)  # fmt: skip
@json_option
def verify(files: tuple[Path, ...], file_format: str | None, as_json: bool) -> int:
    """Check recordings: decode them, build their books, compare with whatever truth they carry.

    Binance captures (depth with bookTicker), LOBSTER samples (a message file, a folder, a zip), NASDAQ ITCH 5.0 files,
    raw 29-byte messages; plain or gzip. Binance captures whose update ids join are one stream. Exits 1 when something
    differs.
    """
    from pipeline.verify.run import verify as run
    from pipeline.verify.text import print_verification

    stages = logging.getLogger("stages")
    level = stages.level
    stages.setLevel(logging.ERROR)  # what the feed would log stands in the report
    try:
        verification = run(files, file_format)
    finally:
        stages.setLevel(level)
    if as_json:
        click.echo(json.dumps(verification.document()))
    else:
        print_verification(verification)
    return DIFFERENCE if verification.differs else CLEAN
