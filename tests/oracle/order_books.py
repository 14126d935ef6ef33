"""Books of single orders, as slow and obvious as possible: a list of orders a symbol, in the order of their arrival."""

from dataclasses import dataclass

from stages.domain.orderbook import l3

PRICE_MAX = 2**62 - 1


@dataclass
class NaiveOrder:
    """An order in its list."""

    order_id: int
    side: int
    price: int
    quantity: int


class NaiveOrderBooks:
    """The codes of `stages.domain.orderbook.l3`, without limits of capacity."""

    def __init__(self, symbols: int) -> None:
        self.books: list[list[NaiveOrder]] = [[] for _ in range(symbols)]

    def find(self, order_id: int) -> tuple[int, NaiveOrder] | None:
        """(symbol, order) of a live order."""
        for symbol, book in enumerate(self.books):
            for order in book:
                if order.order_id == order_id:
                    return symbol, order
        return None

    def add(self, symbol: int, order_id: int, side: int, price: int, quantity: int) -> int:
        if not (0 <= symbol < len(self.books) and side in (0, 1)):
            return l3.BAD_SYMBOL
        if abs(price) > PRICE_MAX:
            return l3.BAD_PRICE
        if not 0 < quantity <= l3.QUANTITY_MAX:
            return l3.BAD_QUANTITY
        if self.find(order_id):
            return l3.DUPLICATE
        self.books[symbol].append(NaiveOrder(order_id, side, price, quantity))
        return l3.OK

    def reduce(self, order_id: int, quantity: int) -> int:
        found = self.find(order_id)
        if found is None:
            return l3.UNKNOWN
        if not 0 < quantity <= l3.QUANTITY_MAX:
            return l3.BAD_QUANTITY
        symbol, order = found
        order.quantity -= quantity
        if order.quantity <= 0:
            self.books[symbol].remove(order)
        return l3.OK if order.quantity >= 0 else l3.TOO_MUCH

    def delete(self, order_id: int) -> int:
        found = self.find(order_id)
        if found is None:
            return l3.UNKNOWN
        self.books[found[0]].remove(found[1])
        return l3.OK

    def replace(self, old_id: int, new_id: int, price: int, quantity: int) -> int:
        found = self.find(old_id)
        if found is None:
            return l3.UNKNOWN
        if abs(price) > PRICE_MAX:
            return l3.BAD_PRICE
        if not 0 < quantity <= l3.QUANTITY_MAX:
            return l3.BAD_QUANTITY
        if new_id != old_id and self.find(new_id):
            return l3.DUPLICATE
        symbol, order = found
        self.books[symbol].remove(order)
        self.books[symbol].append(NaiveOrder(new_id, order.side, price, quantity))
        return l3.OK

    def modify(self, order_id: int, price: int, quantity: int) -> int:
        found = self.find(order_id)
        if found is not None and found[1].price == price and 0 < quantity <= found[1].quantity:
            found[1].quantity = quantity
            return l3.OK
        return self.replace(order_id, order_id, price, quantity)

    def levels(self, symbol: int, side: int) -> list[tuple[int, int]]:
        """(price, quantity), best first."""
        sums: dict[int, int] = {}
        for order in self.books[symbol]:
            if order.side == side:
                sums[order.price] = sums.get(order.price, 0) + order.quantity
        return sorted(sums.items(), reverse=side == 0)

    def ahead(self, order_id: int) -> tuple[int, int]:
        """(orders, their quantity) before an order in its queue."""
        found = self.find(order_id)
        if found is None:
            return -1, -1
        symbol, this = found
        queue = [order for order in self.books[symbol] if (order.side, order.price) == (this.side, this.price)]
        before = queue[: queue.index(this)]
        return len(before), sum(order.quantity for order in before)
