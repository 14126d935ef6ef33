"""The levels of a side in order: a B+ tree of the engine's nodes, from a level's key to its number.

A node has up to NODE_KEYS keys, ascending, and a number to each; NO_KEY stands behind them, so that a place is found
by counting the keys below, without a branch. In a leaf the numbers are levels; in an inner node they are nodes, and
the key is the least that may stand below it, which for the first counts as LOWEST, whatever it is.

A node that is too small is joined to a neighbour under the same parent if both fit into JOINED_MAX. Leaves are linked
both ways, so walking from the best level down needs no stack. The way down to a leaf is kept in the engine's header,
for the way back up: one update at a time.
"""

from shm.atomics import load_u32, load_word, store_u32, store_word
from shm.kernel import primitive, routine
from stages.domain.orderbook.engine import (
    BETTER,
    COUNT,
    FREE_NODES,
    HEIGHT,
    HEIGHT_MAX,
    JOINED_MAX,
    KEYS,
    LIVE_MIN,
    LOWEST,
    NO_KEY,
    NODE_KEYS,
    PATH,
    REFS,
    ROOT,
    WORSE,
    free_node,
    node_at,
    take_node,
)

HALF = NODE_KEYS // 2


@primitive
def key_at(node: int, place: int) -> int:
    """Address of a key."""
    return node + KEYS + 8 * place


@primitive
def ref_at(node: int, place: int) -> int:
    """Address of a number."""
    return node + REFS + 4 * place


@primitive
def count_below(node: int, key: int) -> int:
    """How many keys of the node are below `key`."""
    below = 0
    for place in range(NODE_KEYS):
        below += int(load_word(key_at(node, place)) < key)
    return below


@primitive
def _visit(engine: int, height: int, number: int, place: int) -> None:
    """Note on the way down that at this height node `number` was left at `place`."""
    store_word(engine + PATH + 16 * height, number)
    store_word(engine + PATH + 16 * height + 8, place)


@primitive
def _descend(engine: int, side: int, key: int) -> int:
    """Number of the leaf where `key` belongs; the way there is noted."""
    number = load_u32(side + ROOT)
    for height in range(load_u32(side + HEIGHT), 0, -1):
        node = node_at(engine, number)
        place = max(0, count_below(node, key + 1) - 1)
        _visit(engine, height, number, place)
        number = load_u32(ref_at(node, place))
    return number


@primitive
def leaf_of(engine: int, side: int, key: int) -> int:
    """Number of the leaf where `key` belongs. Changes nothing, unlike `_descend`."""
    number = load_u32(side + ROOT)
    for _ in range(load_u32(side + HEIGHT)):
        node = node_at(engine, number)
        number = load_u32(ref_at(node, max(0, count_below(node, key + 1) - 1)))
    return number


@primitive
def best(engine: int, side: int) -> int:
    """Number of the level with the greatest key, 0 when there is none."""
    number = load_u32(side + ROOT)
    for _ in range(load_u32(side + HEIGHT) + 1):
        node = node_at(engine, number)
        count = load_u32(node + COUNT)
        number = load_u32(ref_at(node, count - 1)) if count > 0 else 0
    return number


@primitive
def best_leaf(engine: int, side: int) -> int:
    """Number of the leaf that holds the best level at its end. Of an empty side it is empty."""
    number = load_u32(side + ROOT)
    for _ in range(load_u32(side + HEIGHT)):
        node = node_at(engine, number)
        number = load_u32(ref_at(node, load_u32(node + COUNT) - 1))
    return number


@primitive
def has_room(engine: int, side: int) -> bool:
    """Whether there are nodes enough for any insertion into this side."""
    height = load_u32(side + HEIGHT)
    return (load_word(engine + FREE_NODES) > height + 1) & (height < HEIGHT_MAX)


@routine
def insert(engine: int, side: int, key: int, number: int) -> None:
    """Add a level whose key the side does not have; `has_room` has said yes."""
    at = _descend(engine, side, key)
    height = 0
    while load_u32(node_at(engine, at) + COUNT) == NODE_KEYS:
        upper = _split(engine, at)
        separator = load_word(key_at(node_at(engine, upper), 0))
        _put(node_at(engine, upper if key >= separator else at), key, number)
        key, number = separator, upper
        height += 1
        if height > load_u32(side + HEIGHT):
            _grow(engine, side, key, number)
            return
        at = load_word(engine + PATH + 16 * height)
    _put(node_at(engine, at), key, number)


@primitive
def _put(node: int, key: int, number: int) -> None:
    """Add an entry to a node that is not full."""
    count = load_u32(node + COUNT)
    place = count_below(node, key)
    for to in range(count, place, -1):
        store_word(key_at(node, to), load_word(key_at(node, to - 1)))
        store_u32(ref_at(node, to), load_u32(ref_at(node, to - 1)))
    store_word(key_at(node, place), key)
    store_u32(ref_at(node, place), number)
    store_u32(node + COUNT, count + 1)


@primitive
def _grow(engine: int, side: int, key: int, number: int) -> None:
    """A new root over the old one and the node that was split from it."""
    root = take_node(engine)
    node = node_at(engine, root)
    store_word(key_at(node, 0), LOWEST)
    store_u32(ref_at(node, 0), load_u32(side + ROOT))
    store_word(key_at(node, 1), key)
    store_u32(ref_at(node, 1), number)
    store_u32(node + COUNT, 2)
    store_u32(side + ROOT, root)
    store_u32(side + HEIGHT, load_u32(side + HEIGHT) + 1)


@routine
def _split(engine: int, lower: int) -> int:
    """Move the upper half of a full node to a new one, whose number is returned."""
    upper = take_node(engine)
    source, target = node_at(engine, lower), node_at(engine, upper)
    for place in range(NODE_KEYS - HALF):
        store_word(key_at(target, place), load_word(key_at(source, HALF + place)))
        store_u32(ref_at(target, place), load_u32(ref_at(source, HALF + place)))
        store_word(key_at(source, HALF + place), NO_KEY)
    store_u32(target + COUNT, NODE_KEYS - HALF)
    store_u32(source + COUNT, HALF)
    better = load_u32(source + BETTER)
    _link(engine, lower, upper)
    _link(engine, upper, better)
    return upper


@primitive
def _link(engine: int, worse: int, better: int) -> None:
    """Make two nodes neighbours; 0 is nobody."""
    if worse != 0:
        store_u32(node_at(engine, worse) + BETTER, better)
    if better != 0:
        store_u32(node_at(engine, better) + WORSE, worse)


@routine
def remove(engine: int, side: int, key: int) -> None:
    """Take out the level with this key, which the side has."""
    at = _descend(engine, side, key)
    node = node_at(engine, at)
    _cut(node, count_below(node, key))
    height = load_u32(side + HEIGHT)
    for above in range(1, height + 1):
        if load_u32(node_at(engine, at) + COUNT) >= LIVE_MIN or not _shrink(engine, above):
            break
        at = load_word(engine + PATH + 16 * above)
    while height > 0 and load_u32(node_at(engine, load_u32(side + ROOT)) + COUNT) == 1:
        root = load_u32(side + ROOT)
        store_u32(side + ROOT, load_u32(ref_at(node_at(engine, root), 0)))
        height -= 1
        store_u32(side + HEIGHT, height)
        free_node(engine, root)


@primitive
def _cut(node: int, place: int) -> None:
    """Take an entry out of a leaf."""
    last = load_u32(node + COUNT) - 1
    for to in range(place, last):
        store_word(key_at(node, to), load_word(key_at(node, to + 1)))
        store_u32(ref_at(node, to), load_u32(ref_at(node, to + 1)))
    store_word(key_at(node, last), NO_KEY)
    store_u32(node + COUNT, last)


@primitive
def _cut_child(parent: int, place: int) -> None:
    """Take an entry out of an inner node. If it is the first, its key stays, as the next one's."""
    key = load_word(key_at(parent, 0))
    _cut(parent, place)
    if place == 0 and load_u32(parent + COUNT) > 0:
        store_word(key_at(parent, 0), key)


@routine
def _shrink(engine: int, above: int) -> bool:
    """The node that the noted way leaves at height `above` has become small: remove it, or join it to a neighbour.

    False when it stays.
    """
    parent = node_at(engine, load_word(engine + PATH + 16 * above))
    place = load_word(engine + PATH + 16 * above + 8)
    children = load_u32(parent + COUNT)
    count = _children_of(engine, parent, place)
    if count == 0:
        _drop(engine, parent, place)
    elif place + 1 < children and count + _children_of(engine, parent, place + 1) <= JOINED_MAX:
        _join(engine, parent, place, above)
    elif place > 0 and count + _children_of(engine, parent, place - 1) <= JOINED_MAX:
        _join(engine, parent, place - 1, above)
    else:
        return False
    return True


@primitive
def _children_of(engine: int, parent: int, place: int) -> int:
    """Entries of a child."""
    return load_u32(node_at(engine, load_u32(ref_at(parent, place))) + COUNT)


@primitive
def _drop(engine: int, parent: int, place: int) -> None:
    """Take child `place` out of its parent, out of its row, and free it."""
    number = load_u32(ref_at(parent, place))
    node = node_at(engine, number)
    _link(engine, load_u32(node + WORSE), load_u32(node + BETTER))
    _cut_child(parent, place)
    free_node(engine, number)


@primitive
def _join(engine: int, parent: int, place: int, above: int) -> None:
    """Put what child `place` + 1 holds behind what child `place` does; the parent is at height `above`."""
    lower = node_at(engine, load_u32(ref_at(parent, place)))
    upper = node_at(engine, load_u32(ref_at(parent, place + 1)))
    used, more = load_u32(lower + COUNT), load_u32(upper + COUNT)
    for index in range(more):
        store_word(key_at(lower, used + index), load_word(key_at(upper, index)))
        store_u32(ref_at(lower, used + index), load_u32(ref_at(upper, index)))
    if above > 1:  # what may stand below the first child of an inner node is said by the parent alone
        store_word(key_at(lower, used), load_word(key_at(parent, place + 1)))
    store_u32(lower + COUNT, used + more)
    _drop(engine, parent, place + 1)
