"""What `up --dry-run` refuses as `up` would."""

from pathlib import Path

import pytest

from launch.host.topology import Topology
from pipeline.config.tree import Config
from pipeline.errors import UsageError
from pipeline.line.placement import placed
from pipeline.reports.dry_run import plan_of
from stages.domain.instruments import MAXIMUM_SYMBOLS
from tests.oracle import itch as oracle


def test_a_file_of_more_symbols_than_a_line_can_have_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "day.itch"
    states = (oracle.pack("H", n + 1, 0, 1, b"S%05d  " % n, b"T", b" ", b"    ") for n in range(MAXIMUM_SYMBOLS + 1))
    file.write_bytes(oracle.framed(*states))
    config = Config(venue={"replay": [str(file)]})
    with pytest.raises(UsageError, match=r"10,001 symbols: between 1 and 10,000 can be traded; choose them with"):
        plan_of(config, placed(config, Topology((0, 1))))
    config = Config(venue={"replay": [str(file)]}, market={"symbols": ["S00003"]})
    assert len(plan_of(config, placed(config, Topology((0, 1)))).segments) > 0
