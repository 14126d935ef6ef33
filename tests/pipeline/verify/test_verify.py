"""The verb: formats told from content, exit codes, the document, words for people."""

import gzip
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import cli
from pipeline.errors import UsageError
from pipeline.verify.detect import format_of
from tests.oracle import itch as oracle
from tests.pipeline.verify.test_lobster import sample, write
from tests.stages.domain.codecs.itch_messages import order_stream
from tests.stages.domain.codecs.test_raw import GOOD

pytestmark = pytest.mark.timeout(600)  # the first of them compiles

FIELDS = {
    "file", "format", "messages", "bytes_left", "compared", "matched", "first_mismatch", "gaps", "resyncs",
    "unknown_orders", "symbols", "events_per_second",
}  # fmt: skip
ITCH = oracle.framed(*order_stream(3, 300, excess=0))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["verify", *map(str, arguments)], standalone_mode=False)


def file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_formats_are_told_from_content(tmp_path: Path) -> None:
    given = {
        "binance": b'1723161255208000000 {"stream":"btcusdt@trade","data":{}}\n',
        "itch": ITCH,
        "raw": b"".join(GOOD),
        "lobster": b"34200.004241176,1,16113575,18,5853300,1\n",
    }
    for name, content in given.items():
        assert format_of(file(tmp_path, "plain", content)) == name
        assert format_of(file(tmp_path, "packed", gzip.compress(content))) == name
    assert format_of(file(tmp_path, "garbage first", b"\xff" * 99 + ITCH)) == "itch"
    assert format_of(file(tmp_path, "garbage first", b"\xff" * 99 + b"".join(GOOD))) == "raw"
    assert format_of(file(tmp_path, "garbage behind", ITCH + b"\xee" * 70_000)) == "itch"
    assert format_of(file(tmp_path, "a mark first", b"\xef\xbb\xbf" + given["binance"])) == "binance"
    assert format_of(file(tmp_path, "no time", b'{"e":"trade","s":"BTCUSDT"}\n')) == "binance"
    assert format_of(file(tmp_path, "bad line first", b"hello\n" + given["binance"])) == "binance"
    assert format_of(file(tmp_path, "book", b"5859400,200,5853300,18,9999999999,0,-9999999999,0\n")) == "lobster"
    assert format_of(tmp_path) == "lobster"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"hello\nworld\n", b"\x7fELF" + bytes(range(256)) * 9, b"\x1f\x8b\x08"]
)
def test_what_is_no_market_data_is_refused_with_a_hint(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError) as error:
        format_of(file(tmp_path, "what", content))
    assert error.value.hint
    assert (error.value.exit_code, str(error.value).count("\n")) == (2, 0)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = run(tmp_path / "pipe")
    assert isinstance(done.exception, UsageError)
    assert "write it to a file first" in str(done.exception)


def test_the_document_has_an_entry_for_each_file(tmp_path: Path) -> None:
    itch, raw = file(tmp_path, "a", gzip.compress(ITCH)), file(tmp_path, "b", b"".join(GOOD))
    done = run(itch, raw, "--json")
    assert (done.return_value, done.exception) == (0, None)
    document = json.loads(done.stdout)
    assert [(entry["file"], entry["format"]) for entry in document["files"]] == [(str(itch), "itch"), (str(raw), "raw")]
    assert all(entry.keys() >= FIELDS for entry in document["files"])
    first, second = document["files"]
    assert first["compared"] == first["matched"] > 0
    assert first["events_per_second"] > 0
    assert (second["compared"], bool(second["why_not_compared"])) == (0, True)
    assert len(document["books"]) == 4


def test_a_difference_ends_with_one_and_is_explained(tmp_path: Path) -> None:
    messages, rows = sample(1, 100)
    rows[50] = rows[50].replace(rows[50].split(",")[1], "77777", 1)
    done = run(write(tmp_path, messages, rows))
    assert done.return_value == 1
    assert "the first difference:" in done.stdout
    assert "comparisons agree" in done.stdout


def test_damage_alone_is_no_difference(tmp_path: Path) -> None:
    done = run(file(tmp_path, "cut", ITCH[:-7]))
    assert done.return_value == 0
    assert "truncated" in done.stdout


def test_the_format_can_be_named(tmp_path: Path) -> None:
    path = file(tmp_path, "day", ITCH)
    assert run(path, "--format", "itch").return_value == 0
    done = run(path, "--format", "raw", "--json")
    assert done.return_value == 0
    assert {"garbage"} <= {problem["problem"] for problem in json.loads(done.stdout)["files"][0]["problems"]}
    assert isinstance(run(path, "--format", "binance").exception, UsageError)
    assert run().exit_code != 0
