"""`pipeline book SYMBOL`: the best levels of a live run's order book."""

import json

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name


@click.command()
@click.argument("symbol")
@run_name
@json_option
def book(symbol: str, run: str, as_json: bool) -> int:
    """Best bid and ask of SYMBOL, its best levels, and the state of its book."""
    from pipeline.asking import ask_run

    found = ask_run(run, "book", symbol=symbol.upper())
    if as_json:
        click.echo(json.dumps(found))
    else:
        from pipeline.reports.text import ladder_table
        from pipeline.terminal import data_console

        data_console().print(ladder_table(found))
    return 0
