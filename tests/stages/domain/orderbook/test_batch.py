"""Messages looked at ahead come to what they come to one by one, whatever the looks have found meanwhile."""

import numpy as np
import pytest

from stages.domain.orderbook import batch
from stages.domain.orderbook.batch import ORDER_MESSAGE, OrderKind, apply_batch
from stages.domain.orderbook.engine import Capacity
from tests.entered import entered
from tests.stages.domain.orderbook.engines import Engine

SYMBOLS = 2


def _messages(seed: int, count: int, ids: int) -> np.ndarray:
    """All kinds, about so few orders and levels that most come, go and come again within the reach of a look."""
    random = np.random.default_rng(seed)
    messages = np.zeros(count, ORDER_MESSAGE)
    kinds = [*OrderKind, OrderKind.ADD, OrderKind.DELETE, 99]
    messages["kind"] = random.choice([int(kind) for kind in kinds], count)
    messages["side"], messages["symbol"] = random.integers(0, 2, count), random.integers(0, SYMBOLS + 1, count)
    messages["order_id"], messages["new_id"] = random.integers(0, ids, count), random.integers(0, ids, count)
    messages["price"], messages["quantity"] = random.integers(1, 4, count), random.integers(0, 4, count)
    messages["code"] = random.integers(-(2**62), 2**62, count)  # of a batch before this one: means nothing
    return messages


@pytest.mark.parametrize("ids", [3, 12, 60])
@pytest.mark.parametrize("seed", range(5))
def test_a_batch_gives_the_bytes_and_codes_of_its_messages_one_by_one(seed: int, ids: int) -> None:
    messages = _messages(seed, 400, ids)
    capacity = Capacity.of(SYMBOLS, 16, 8)  # few homes: records are used again at once, by others
    together, singly = Engine(capacity, salt=seed), Engine(capacity, salt=seed)
    ahead, alone = messages.copy(), messages.copy()
    refused = int(apply_batch(together.address, ahead.ctypes.data, len(ahead)))
    for index in range(len(alone)):
        entered(batch.apply)(singly.address, alone.ctypes.data + batch.MESSAGE_BYTES * index, 0)
    assert (ahead == alone).all()
    assert refused == int((alone["code"] < 0).sum()) > 0
    assert (together.memory_bytes() == singly.memory_bytes()).all()
    together.assert_sound()
