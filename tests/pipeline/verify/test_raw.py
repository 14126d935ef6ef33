"""Raw files verified: counted, nothing compared."""

from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.verify import raw
from tests.stages.domain.codecs.test_raw import GOOD, message


def test_messages_and_symbols_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "day.raw"
    path.write_bytes(b"".join([*GOOD, message(3), *GOOD]) + b"\1\2\3")
    (report,) = raw.verify(path, {})
    assert (dict(report.messages), report.symbols, report.bytes_left) == ({"trade": 100, "quote": 100}, 100, 3)
    assert (report.compared, report.matched, report.differs) == (0, 0, False)
    assert "no second truth" in report.why_not_compared
    assert {problem.name: (problem.count, problem.offset) for problem in report.problems} == {
        "truncated": (1, 201 * 29), "unknown_type": (1, 2900), "time_went_back": (1, 2929),
    }  # fmt: skip
    assert report.problems[1].what == "message type 3 is neither 1 (trade) nor 2 (quote)"


def test_a_file_without_a_message_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "day.raw"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(UsageError, match="holds no raw message"):
        raw.verify(path, {})
