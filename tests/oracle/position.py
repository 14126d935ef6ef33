"""Average-cost accounting in unbounded integers; slow and obvious. Twin of stages/router/position.py."""

from dataclasses import dataclass


@dataclass
class Position:
    quantity: int = 0
    cost: int = 0
    realized: int = 0

    def fill(self, is_buy: bool, lots: int, quote: int) -> None:
        """Close what stands against the fill, oldest and newest alike at the average cost; open the rest."""
        held = self.quantity
        against = held < 0 if is_buy else held > 0
        closing = min(abs(held), lots) if against else 0
        if closing:
            closing_quote = quote * closing // lots
            share = abs(self.cost) * closing // abs(held)
            if is_buy:
                self.realized += share - closing_quote
                self.cost += share
            else:
                self.realized += closing_quote - share
                self.cost -= share
            quote -= closing_quote
        self.quantity += lots if is_buy else -lots
        if lots > closing:
            self.cost += quote if is_buy else -quote
