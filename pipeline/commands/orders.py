"""`pipeline orders`: what a live run has at the venue, and what ended last."""

import json

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name


@click.command()
@run_name
@json_option
def orders(run: str, as_json: bool) -> int:
    """The working orders of a run and the last ones that ended, as its router's journal has them."""
    from pipeline.asking import ask_run

    found = ask_run(run, "orders")
    if as_json:
        click.echo(json.dumps(found))
    else:
        from pipeline.reports.text import orders_table
        from pipeline.terminal import data_console

        for name in ("working", "ended"):
            data_console().print(orders_table(f"{name.capitalize()} orders", found[name]))
    return 0
