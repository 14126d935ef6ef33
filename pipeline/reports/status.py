"""The live status line: one line of counters, drawn about once a second."""

from pipeline.reports.run_report import Snapshot


def status_line(snapshot: Snapshot) -> str:
    """Messages, orders, and each symbol's best prices and position; why it is not traded, where its book says so."""
    counters = snapshot.counters
    feed, router = counters["feed"], counters["router"]
    parts = [
        f"market data {feed.get('messages_in', 0):,}",
        f"gaps {feed.get('gaps', 0)}",
        f"orders {router.get('sent', 0):,} sent, {router.get('acked', 0):,} acked, {router.get('filled', 0):,} filled",
        f"{counters['risk'].get('denied_by_risk', 0):,} denied",
    ]
    for symbol, book in list(snapshot.books.items())[:4]:
        state = "" if book["state"] == "valid" else f" {book['state']}"
        best = f"{book['bid'] or '-'}/{book['ask'] or '-'}"
        parts.append(f"{symbol}{state} {best} {snapshot.positions[symbol]['quantity']}")
    return "  ".join(parts)
