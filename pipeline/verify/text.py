"""The verification report for people, from what --json prints."""

from collections.abc import Mapping
from typing import Any

import click

from pipeline.verify.report import FileReport, Verification

BOOKS_SHOWN = 20


def print_verification(verification: Verification) -> None:
    """To standard output."""
    for report in verification.files:
        _print_file(report)
    _print_books(verification.books)


def _print_file(report: FileReport) -> None:
    messages = "  ".join(f"{name} {count:,}" for name, count in report.messages.items())
    per_second = report.events / report.seconds if report.seconds else 0
    click.echo(f"{report.file}  {report.format}")
    click.echo(f"  messages    {messages}")
    click.echo(f"  symbols     {report.symbols:,}, {report.unknown_orders:,} unknown orders, {report.gaps:,} gaps, "
               f"{report.resyncs:,} resyncs, {report.bytes_left:,} bytes left")  # fmt: skip
    verdict = f"{report.matched:,} of {report.compared:,} comparisons agree"
    if not report.compared:
        verdict = f"nothing: {report.why_not_compared}"
    click.echo(f"  compared    {verdict}")
    for name, value in report.details.items():
        if not isinstance(value, Mapping) or name == "executions":
            click.echo(f"  {name:<11} {_plain(value)}")
    click.echo(f"  speed       {per_second:,.0f} messages a second decoded and put into books")
    if report.first_mismatch is not None:
        click.echo("  the first difference:")
        _print_difference(report.first_mismatch)
    for problem in report.problems:
        click.echo(f"  problem     {problem}")


def _print_difference(difference: Mapping[str, Any]) -> None:
    for name, value in difference.items():
        if value is not None:
            click.echo(f"    {name:<16} {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print_books(books: Mapping[str, Mapping[str, Any]]) -> None:
    for symbol, book in list(books.items())[:BOOKS_SHOWN]:
        bid, ask = (f"{book[side]} x {book[f'{side}_qty']}" if book[side] else "-" for side in ("bid", "ask"))
        levels = f"{book['bid_levels']:,} / {book['ask_levels']:,} levels"
        click.echo(f"{symbol:<10} {bid:>24}  {ask:>24}  {levels}  {book['last_update_id']}  {book['state']}")
    if len(books) > BOOKS_SHOWN:
        click.echo(f"... and {len(books) - BOOKS_SHOWN:,} books more; --json has all of them")
