"""The run report for people: tables of what matters, from the same document that --json prints."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.reports.catalogue import error_table

SYMBOLS_LISTED = 40


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Draw the whole report."""
    console.print(_headline(report))
    for table in (_stages(report), hops_table(report), _counts(report), _books(report), positions_table(report)):
        console.print(table)
    if report["errors"]:
        console.print(error_table("Errors and warnings", report["errors"]))
    console.print(_footnotes(report), style="dim", highlight=False)


def nanoseconds(value: float | None) -> str:
    """A time in the unit that suits it."""
    if value is None:
        return "-"
    if value < 10_000:
        return f"{value:,.0f} ns"
    if value < 10_000_000:
        return f"{value / 1e3:,.1f} µs"
    return f"{value / 1e6:,.1f} ms" if value < 10_000_000_000 else f"{value / 1e9:,.1f} s"


def _headline(report: Mapping[str, Any]) -> Text:
    line = Text(f"run {report['run']}  {report['placement']}  ")
    line.append(report["exit"], "bold green" if report["exit"] in ("clean", "running") else "bold red")
    line.append(f"  {report.get('reason', '')}  {report.get('duration_s', 0):.1f} s")
    return line


def new_table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=box.SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _stages(report: Mapping[str, Any]) -> Table:
    table = new_table("Stages", "stage", "pid", "core", "policy", "idle", "in", "out", "memory")
    for name, stage in report["stages"].items():
        policy = f"{stage['policy']} {stage['priority']}" if stage["priority"] else str(stage["policy"] or "-")
        rss = f"{stage['rss_bytes'] / 2**20:,.0f} MB" if stage["rss_bytes"] is not None else "-"
        table.add_row(
            name, _or_dash(stage["pid"]), _or_dash(stage["cpu"]), policy, stage["idle"],
            f"{stage['messages_in']:,}", f"{stage['messages_out']:,}", rss,
        )  # fmt: skip
    return table


def hops_table(report: Mapping[str, Any]) -> Table:
    """Every hop's percentiles beside its budget."""
    table = new_table("Hops", "hop", "samples", "p50", "p90", "p99", "p99.9", "max", "budget", "p50 within")
    for hop in report["hops"]:
        per_level = hop["unit"] == "ns_per_level"
        verdict = {True: Text("yes", "green"), False: Text("no", "bold red"), None: Text("-", "dim")}
        table.add_row(
            f"{hop['name']} (per level)" if per_level else hop["name"], f"{hop['count']:,}",
            *(nanoseconds(hop[name]) for name in ("p50", "p90", "p99", "p999", "max")),
            nanoseconds(hop["budget"]), verdict[hop["within_budget"]],
        )  # fmt: skip
    return table


def _counts(report: Mapping[str, Any]) -> Table:
    table = new_table("Market data and orders", "market data", "count")
    table.add_column("  orders", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    data, orders = list(report["market_data"].items()), list(report["orders"].items())
    for index in range(max(len(data), len(orders))):
        left = data[index] if index < len(data) else None
        right = orders[index] if index < len(orders) else None
        table.add_row(
            left[0] if left else "", f"{left[1]:,}" if left else "",
            f"  {right[0]}" if right else "", f"{right[1]:,}" if right else "",
        )  # fmt: skip
    return table


def _books(report: Mapping[str, Any]) -> Table:
    table = new_table("Books", "symbol", "bid qty", "bid", "ask", "ask qty", "levels", "last id", "state")
    for symbol in _listed(report, table):
        book = report["books"][symbol]
        table.add_row(
            symbol, *(_or_dash(book[name]) for name in ("bid_qty", "bid", "ask", "ask_qty")),
            f"{book['bid_levels']:,} / {book['ask_levels']:,}", str(book["last_update_id"]), book["state"],
        )  # fmt: skip
    return table


def positions_table(report: Mapping[str, Any]) -> Table:
    """What is held of each symbol."""
    names = ("quantity", "average_price", "realized_pnl", "unrealized_pnl", "fees")
    table = new_table("Positions", "symbol", *(name.replace("_", " ") for name in names))
    for symbol in _listed(report, table):
        table.add_row(symbol, *(_or_dash(report["positions"][symbol][name]) for name in names))
    return table


def _listed(report: Mapping[str, Any], table: Table) -> list[str]:
    """The symbols that a table lists: all; where they are many those that were traded, if any, and no more than fit."""
    positions = report["positions"]
    if len(positions) <= SYMBOLS_LISTED:
        return list(positions)
    traded = [name for name, held in positions.items() if any(held[each] != "0" for each in ("quantity", "fees"))]
    listed = (traded or list(positions))[:SYMBOLS_LISTED]
    table.caption = f"{len(positions) - len(listed):,} symbols more: --json has them all"
    return listed


def ladder_table(book: Mapping[str, Any]) -> Table:
    """The best levels of one book, as `pipeline book` gets them."""
    title = f"{book['symbol']}  {book['state']}  {book['bid_levels']:,} / {book['ask_levels']:,} levels"
    table = new_table(f"{title}  last id {book['last_update_id']}", "bid qty", "bid", "ask", "ask qty")
    for bid, ask in zip_longest(book["bids"], book["asks"], fillvalue=("", "")):
        table.add_row(bid[1], bid[0], ask[0], ask[1])
    return table


def orders_table(title: str, orders: Sequence[Mapping[str, Any]]) -> Table:
    """Orders, as `pipeline orders` gets them."""
    names = ("symbol", "side", "price", "quantity", "filled", "state", "venue_order_id")
    table = new_table(title, "client order id", *(name.replace("_", " ") for name in names))
    for order in orders:
        table.add_row(order["client_order_id"], *(_or_dash(order[name]) for name in names))
    return table


def _footnotes(report: Mapping[str, Any]) -> str:
    machine = report.get("machine", {})
    cost = report.get("clock_read_ns")
    stamps = f"Each stamp costs {cost:.1f} ns and is part of every figure.  " if cost is not None else ""
    return (
        f"{_fees(report)}{stamps}{_clock(report.get('clock'))}"
        f"{machine.get('cpu', '')}, {machine.get('cores', '?')} cores, Linux {machine.get('kernel', '')}"
    )


def _fees(report: Mapping[str, Any]) -> str:
    """The venue tells fills that were missed by their totals only."""
    unknown = report.get("counters", {}).get("router", {}).get("fills_without_fee", 0)
    return f"The commission of {unknown:,} fills was never reported: fees and profit lack it.  " if unknown else ""


def _clock(clock: Mapping[str, Any] | None) -> str:
    if clock is None:
        return ""
    if clock["source"] != "tsc":
        return f"Stamps are {clock['source']}, not the TSC: {clock['tsc_refused']}.  "
    frequency_mhz, error_ppm = clock["frequency_hz"] / 1e6, clock["rate_error_ppm"]
    return f"Stamps are the TSC at {frequency_mhz:,.3f} MHz, known to {error_ppm:.2f} ppm.  "


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
