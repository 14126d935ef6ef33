"""Generated ITCH messages: of every type with any content, and streams of orders that know each other."""

import random
import struct

from hypothesis import strategies as st

from tests.oracle import itch as oracle


@st.composite
def any_message(draw: st.DrawFn, letters: str = "".join(oracle.FORMATS)) -> bytes:
    """A message of one of `letters` with any bytes in it."""
    letter = draw(st.sampled_from(letters))
    body = draw(st.binary(min_size=oracle.length_of(letter) - 1, max_size=oracle.length_of(letter) - 1))
    return letter.encode() + body


def order_stream(seed: int, count: int, *, strangers: float = 0.05, excess: float = 0.02) -> list[bytes]:
    """`count` messages of every type, most about orders; some about orders of nobody, some that take too much."""
    rng = random.Random(seed)
    live: dict[int, int] = {}
    time_ns = 34_200_000_000_000
    messages = []
    others = [letter for letter in oracle.FORMATS if letter not in "AFECXDU"]
    for number in range(1, count + 1):
        time_ns += rng.randrange(1_000)
        head = (rng.randrange(1, 5), rng.randrange(4), time_ns)
        letter = rng.choices(["A", "F", "E", "C", "X", "D", "U", "other"], [40, 5, 8, 2, 5, 25, 10, 5])[0]
        known = rng.choice(list(live)) if live and rng.random() > strangers else 10**9 + rng.randrange(1_000)
        left = live.get(known, 100)
        shares = left + 1 if rng.random() < excess else rng.randrange(1, left + 1)
        price = 100_0000 + 100 * rng.randrange(-50, 50)
        if letter in ("A", "F"):
            size = 100 * rng.randrange(1, 10)
            fields = [number, rng.choice([b"B", b"S"]), size, b"STOCK%d  " % head[0], price]
            messages.append(oracle.pack(letter, *head, *fields, *([b"MPID"] if letter == "F" else [])))
            live[number] = size
        elif letter in ("E", "C", "X"):
            fields = {"E": [shares, number], "C": [shares, number, b"Y", price], "X": [shares]}[letter]
            messages.append(oracle.pack(letter, *head, known, *fields))
            _take(live, known, shares)
        elif letter in ("D", "U"):
            live.pop(known, None)
            fields = [number, 300, price] if letter == "U" else []
            messages.append(oracle.pack(letter, *head, known, *fields))
            if letter == "U":
                live[number] = 300
        else:
            messages.append(_other(rng, rng.choice(others), head))
    return messages


def directory(locate: int) -> bytes:
    """Stock directory: STOCK1 has locate 1, and so on."""
    traits = [b"N", b"N", 100, b"N", b"C", b"Z ", b"P", b"N", b"N", b"1", b"N", 1, b"N"]
    return oracle.pack("R", locate, 0, 1, b"STOCK%d  " % locate, *traits)


def coherent(messages: list[bytes]) -> list[bytes]:
    """The messages, each with the locate of the order that it is about; no locate gets another name than its own."""
    owners: dict[object, object] = {}
    named = set()
    found = []
    for message in messages:
        fields = oracle.unpack(message)
        letter, locate, about = str(fields[0]), fields[1], fields[4]
        if letter in ("A", "F"):
            owners[about] = locate
        elif letter in "ECXDU":
            locate = owners.get(about, locate)
            if letter == "U":
                owners[fields[5]] = locate
        if letter in "AF":
            named.add(locate)
        elif letter in "PQHRhYKJNOIL" and (letter == "R" or locate not in named):
            continue  # of random names
        found.append(message[:1] + int(locate).to_bytes(2, "big") + message[3:])  # type: ignore[call-overload]
    return found


def _take(live: dict[int, int], reference: int, shares: int) -> None:
    if reference in live:
        live[reference] -= shares
        if live[reference] <= 0:
            del live[reference]


def _other(rng: random.Random, letter: str, head: tuple[int, int, int]) -> bytes:
    """Random but for the stock, which is its locate's own: fields of 8 characters are stocks."""
    size = struct.calcsize(">" + oracle.FORMATS[letter])
    fields = struct.unpack(">" + oracle.FORMATS[letter], rng.randbytes(size))
    stock = b"STOCK%d  " % head[0]
    return oracle.pack(
        letter, *head, *(stock if isinstance(field, bytes) and len(field) == 8 else field for field in fields)
    )
