"""Files damaged at random: always a report that adds up, or one clear refusal; never a traceback."""

import gzip
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.errors import UsageError
from shm.atomics import JIT
from tests.oracle import itch as oracle
from tests.pipeline.verify.test_binance import START
from tests.pipeline.verify.test_lobster import NAMES, sample
from tests.stages.domain.codecs.itch_messages import order_stream
from tests.stages.domain.codecs.test_raw import GOOD

pytestmark = [
    pytest.mark.timeout(600),  # the first of each format compiles
    pytest.mark.skipif(not JIT, reason="takes minutes when it is interpreted"),
]

FILES = {
    "itch": oracle.framed(*order_stream(3, 300, excess=0)),
    "raw": b"".join(GOOD),
    "binance": b"".join(b"%d %s\n" % (1_000 + index, body) for index, body in enumerate(START)),
}
TOKENS = [b"9" * 30, b"-1", b"null", b'"', b"{", b"}", b"[[", b"\n", b"\r", b",", b" ", b"1e400", b"\xc3", b"\0" * 50]


def mutated(rng: random.Random, content: bytes) -> bytes:
    """Cut short, bytes changed, taken out, put in, doubled: up to three times."""
    body = bytearray(content)
    for _ in range(rng.randrange(1, 4)):
        at, size = rng.randrange(len(body) + 1), rng.choice([1, 1, 2, 3, 10, 100])
        match rng.randrange(7):
            case 0:
                del body[at:]
            case 1:
                body[at : at + size] = rng.randbytes(size)
            case 2:
                body[at:at] = rng.randbytes(size)
            case 3:
                del body[at : at + size]
            case 4:
                body[at : at + size] = bytes([rng.choice([0, 255])]) * size
            case 5:
                body[at:at] = body[at // 2 : at // 2 + 10 * size]
            case 6:
                body[at : at + 1] = rng.choice(TOKENS)
    return bytes(body)


def write(rng: random.Random, folder: Path, name: str) -> Path:
    if name == "lobster":
        for kind, lines in zip(("message", "orderbook"), sample(1, 100), strict=True):
            text = "".join(f"{line}\n" for line in lines).encode()
            (folder / NAMES.format(kind)).write_bytes(mutated(rng, text) if rng.random() < 0.6 else text)
        return folder / NAMES.format("message")
    content, is_packed = FILES[name], rng.random() < 0.4
    if is_packed and rng.random() < 0.7:
        content = mutated(rng, gzip.compress(content))
    else:
        content = mutated(rng, content)
        content = gzip.compress(content) if is_packed else content
    (folder / "file").write_bytes(content)
    return folder / "file"


@pytest.mark.parametrize("name", [*FILES, "lobster"])
def test_no_damage_ends_in_a_traceback(tmp_path: Path, name: str) -> None:
    for seed in range(40):
        rng = random.Random(seed)
        path = write(rng, tmp_path, name)
        named = ["--format", name] if rng.random() < 0.5 else []
        done = CliRunner().invoke(cli, ["verify", str(path), "--json", *named], standalone_mode=False)
        if done.exception is not None:
            assert isinstance(done.exception, UsageError), (seed, done.exception)
            assert done.exception.hint
            continue
        files = json.loads(done.stdout)["files"]
        assert all(0 <= file["matched"] <= file["compared"] for file in files), seed
        differs = [file["matched"] < file["compared"] for file in files]
        assert [file["first_mismatch"] is not None for file in files] == differs, seed
        assert done.return_value == int(any(differs)), seed
