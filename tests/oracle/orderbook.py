"""An order book as slow and obvious as possible: a dictionary per side."""


class NaiveBook:
    """Price levels in dictionaries; a side that outgrows `capacity` forgets its deepest level."""

    def __init__(self, capacity: int = 1 << 30) -> None:
        self.capacity = capacity
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.dropped = 0

    def set_bid(self, price: int, quantity: int) -> None:
        self._set(self.bids, price, quantity, min)

    def set_ask(self, price: int, quantity: int) -> None:
        self._set(self.asks, price, quantity, max)

    def _set(self, side, price, quantity, deepest) -> None:  # type: ignore[no-untyped-def]
        if quantity == 0:
            side.pop(price, None)
            return
        side[price] = quantity
        if len(side) > self.capacity:
            del side[deepest(side)]
            self.dropped += 1

    def clear(self) -> None:
        self.bids.clear()
        self.asks.clear()

    def best(self) -> tuple[int, int, int, int]:
        """(bid price, its quantity, ask price, its quantity); zeros for an empty side."""
        bid, ask = max(self.bids, default=0), min(self.asks, default=0)
        return bid, self.bids.get(bid, 0), ask, self.asks.get(ask, 0)

    def bid_levels(self) -> list[tuple[int, int]]:
        return sorted(self.bids.items(), reverse=True)

    def ask_levels(self) -> list[tuple[int, int]]:
        return sorted(self.asks.items())
