"""`pipeline orders`: what a live run has at the venue, and what ended last."""

import json
from pathlib import Path
from typing import Any

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name


@click.command()
@run_name
@json_option
def orders(run: str, as_json: bool) -> int:
    """The working orders of a run and the last ones that ended, as its router's journal has them."""
    from pipeline.asking.question import ask_run

    asked = ask_run(run, "journal")
    found = {"run": asked["run"], **_read(Path(asked["folder"]), asked["grids"])}
    if as_json:
        click.echo(json.dumps(found))
    else:
        from pipeline.reports.text import orders_table
        from pipeline.terminal import data_console

        for name in ("working", "ended"):
            data_console().print(orders_table(f"{name.capitalize()} orders", found[name]))
    return 0


def _read(journal: Path, grids: list[dict[str, Any]]) -> dict[str, Any]:
    from pipeline.errors import PipelineError
    from pipeline.reports.orders import orders_document
    from stages.router.journal_files import JournalError

    try:
        return orders_document(journal, grids)
    except JournalError as error:
        raise PipelineError(str(error), "the journal of another version? use the `pipeline` that runs it") from None
