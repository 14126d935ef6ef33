"""python -m bench list | run NAME [--json] [--quick]"""

import json
import sys
from importlib import import_module
from typing import Any

import click
from rich.console import Console
from rich.table import Table

BENCHES = {
    "alternatives": "designs that lost, beside what won: rings, seqlocks, histograms, wake-ups, books",
    "book": "order books of a million live orders, beside C++, order-book, sortedcontainers and nautilus_trader",
    "histogram": "recording into an HDR histogram, beside C++ and the hdrhistogram package",
    "idle": "a record round five processes: idle strategies, on own cores and on one, beside a futex wake a hop",
    "itch": "ITCH bytes to books of single orders, messages a second on one core, beside C++",
    "journal": "an order's entry in the router's journal, beside write() and SQLite",
    "lines": "datagrams of one line and of two, to messages and events, beside C++ and recvmmsg",
    "pool": "taking objects from a pool and giving them back, beside C++ and Python's queues",
    "ring": "64-byte records between two processes on two cores, beside C++ and Python's peers",
    "seqlock": "reading and writing the latest value, beside C++ and a lock; and what readers cost the writer",
    "soak": "books at 10,000 messages a second for ten minutes: p99.9 of each minute, and memory",
    "tap": "showing every frame to a recorder, or to nobody: the feed's parsing with it, beside parsing alone",
    "wire": "market data frame sent to order frame received over loopback, beside a C echo of the same bytes",
}


PLAIN_COLUMNS = 120


@click.group()
def main() -> None:
    """Benchmarks: every counted message is checked, peers run in the same invocation."""


@main.command("list")
def list_benches() -> None:
    """Name every benchmark."""
    for name, what in BENCHES.items():
        click.echo(f"{name:13} {what}")


@main.command("run")
@click.argument("name", type=click.Choice(list(BENCHES)))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--quick", is_flag=True, help="Fewer samples: shows that it works, not how fast it is.")
def run_bench(name: str, as_json: bool, quick: bool) -> None:
    """Run one benchmark."""
    document: dict[str, Any] = import_module(f"bench.{name}").run(quick=quick)
    if as_json:
        click.echo(json.dumps(document, indent=1))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_COLUMNS)
    machine = document["machine"]
    console.print(f"{document['bench']} on {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}")
    console.print(_figures(document["results"]))
    for name_of_ratio, ratio in document["ratios"].items():
        console.print(f"{name_of_ratio}: {ratio}")
    for name_of_part in document.keys() - {"bench", "machine", "results", "ratios", "budgets"}:
        console.print(f"{name_of_part}: {document[name_of_part]}")
    for budget in document.get("budgets", ()):
        verdict = "holds" if budget["holds"] else "[bold]does not hold[/bold]"
        console.print(f"{budget['what']}: {budget['figure']}, limit {budget['limit']}: {verdict}")


def _figures(rows: list[dict[str, Any]]) -> Table:
    """A line a figure: its median over runs, and their range."""
    table = Table("name", "figure", "value", "low", "high", "samples")
    for row in rows:
        if "absent" in row:
            table.add_row(row["name"], f"absent: {row['absent']}")
        names = [name for name in row if name not in ("name", "samples", "absent") and not _is_range(name, row)]
        for name in names:
            values = (row[name], row.get(f"{name}_low", ""), row.get(f"{name}_high", ""))
            table.add_row(row["name"], name, *(str(value) for value in values), str(row["samples"]))
    return table


def _is_range(name: str, row: dict[str, Any]) -> bool:
    return any(name.endswith(end) and name.removesuffix(end) in row for end in ("_low", "_high"))


if __name__ == "__main__":
    sys.exit(main())
