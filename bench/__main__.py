"""python -m bench list | run NAME [--json] [--quick]"""

import json
import sys
from importlib import import_module
from typing import Any

import click
from rich.console import Console
from rich.table import Table

BENCHES = {
    "book": "order books of a million live orders, beside C++, order-book and sortedcontainers",
    "histogram": "recording into an HDR histogram, beside C++ and the hdrhistogram package",
    "pool": "taking objects from a pool and giving them back, beside C++ and Python's queues",
    "ring": "64-byte records between two processes on two cores, beside C++ and Python's peers",
    "seqlock": "reading and writing the latest value, beside C++ and a lock; and what readers cost the writer",
    "wire": "market data frame sent to order frame received over loopback, beside a C echo of the same bytes",
}


@click.group()
def main() -> None:
    """Benchmarks: every counted message is checked, peers run in the same invocation."""


@main.command("list")
def list_benches() -> None:
    """Name every benchmark."""
    for name, what in BENCHES.items():
        click.echo(f"{name:10} {what}")


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
    machine = document["machine"]
    console.print(f"{document['bench']} on {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}")
    columns = list(dict.fromkeys(key for row in document["results"] for key in row))
    table = Table(*columns)
    for row in document["results"]:
        table.add_row(*(f"{row.get(key, '')}" for key in columns))
    console.print(table)
    for name_of_ratio, ratio in document["ratios"].items():
        console.print(f"{name_of_ratio}: {ratio}")
    for name_of_part in document.keys() - {"bench", "machine", "results", "ratios", "budgets"}:
        console.print(f"{name_of_part}: {document[name_of_part]}")
    for budget in document.get("budgets", ()):
        verdict = "holds" if budget["holds"] else "[bold]does not hold[/bold]"
        console.print(f"{budget['what']}: {budget['figure']}, limit {budget['limit']}: {verdict}")


if __name__ == "__main__":
    sys.exit(main())
