"""`pipeline book SYMBOL`: the best levels of a live run's order book, or whether it is sound."""

import json

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name


@click.command()
@click.argument("symbol")
@click.option("--check", is_flag=True, help="Check the book's integrity instead; exit code 1 when it is broken.")
@run_name
@json_option
def book(symbol: str, check: bool, run: str, as_json: bool) -> int:
    """Best bid and ask of SYMBOL, its best levels, and the state of its book."""
    from pipeline.asking.question import ask_run

    found = ask_run(run, "check" if check else "book", symbol=symbol.upper())
    if as_json:
        click.echo(json.dumps(found))
    elif check:
        click.echo(check_words(found))
    else:
        from pipeline.reports.text import ladder_table
        from pipeline.terminal import data_console

        data_console().print(ladder_table(found))
    return 0 if not check or found["sound"] else 1


def check_words(found: dict[str, object]) -> str:
    """The result of a check, in a line."""
    if not found["sound"]:
        return (
            f"{found['symbol']}: broken: {found['fault']}; it is stale, and not traded, before a snapshot replaces it"
        )
    whole = "" if found["is_whole"] else "; their sums were not compared: it changed meanwhile, or a queue is very long"
    orders = f" with {found['orders']:,} orders" if found["orders"] else ""
    return f"{found['symbol']}: sound: {found['levels']:,} levels{orders} looked at{whole}"
