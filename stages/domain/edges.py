"""The line's edges: which shared segment joins which stages, and what each holds.

feed ==> book ==> strategy ==> risk ==> router        rings
                  strategy <== risk <== router        rings: reports
         book --> bbo, depth, checks                  seqlock tables, one row per symbol
supervisor --> check-requests --> book
                                       router --> positions
"""

from shm.segment import Layout, record_layout, ring_layout, seqlock_layout
from stages.domain.messages import (
    BBO,
    BOOK_CHECK,
    CHECK_REQUEST,
    DEPTH,
    MARKET,
    NOTICE,
    ORDER,
    POSITION,
    REPORT,
)

FEED_TO_BOOK = "feed-book"
BOOK_TO_STRATEGY = "book-strategy"
STRATEGY_TO_RISK = "strategy-risk"
RISK_TO_ROUTER = "risk-router"
ROUTER_TO_RISK = "router-risk"
RISK_TO_STRATEGY = "risk-strategy"
BBO_TABLE = "bbo"
DEPTH_TABLE = "depth"
POSITION_TABLE = "positions"
CHECK_TABLE = "checks"
CHECK_REQUESTS = "check-requests"

RINGS = {
    FEED_TO_BOOK: ring_layout(MARKET, 16_384),
    BOOK_TO_STRATEGY: ring_layout(NOTICE, 4_096),
    STRATEGY_TO_RISK: ring_layout(ORDER, 1_024),
    RISK_TO_ROUTER: ring_layout(ORDER, 1_024),
    ROUTER_TO_RISK: ring_layout(REPORT, 4_096),
    RISK_TO_STRATEGY: ring_layout(REPORT, 4_096),
}


def edges(symbols: int) -> dict[str, Layout]:
    """Layout of every edge of a line that trades `symbols` instruments."""
    return RINGS | {
        BBO_TABLE: seqlock_layout(BBO, symbols),
        DEPTH_TABLE: seqlock_layout(DEPTH, symbols),
        POSITION_TABLE: seqlock_layout(POSITION, symbols),
        CHECK_TABLE: seqlock_layout(BOOK_CHECK, symbols),
        CHECK_REQUESTS: record_layout(CHECK_REQUEST, 1 + symbols),
    }
