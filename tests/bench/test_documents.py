"""Each benchmark of the transport runs here, short, and says what its document promises. How fast is not asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MACHINE = {"cpu", "cores", "kernel", "isolated", "governor", "python", "numba", "raw_line_rtt_ns"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [
        "seqlock",
        "histogram",
        "pool",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("ring", "book", "itch", "alternatives", "tap", "lines")
        ),
    ],
)
def test_a_short_run_checks_what_it_counts_and_says_what_it_found(name: str) -> None:
    command = [sys.executable, "-m", "bench", "run", name, "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["bench"] == name
    assert document["machine"].keys() >= MACHINE
    measured = [row for row in document["results"] if "absent" not in row]
    if name == "ring" and document["machine"]["cores"] < 2:
        assert document["note"] == "needs two cores"
        return
    assert {"tickpipe", "seqlock: shm.seqlock"} & {row["name"] for row in measured}
    for row in measured:
        figures = {key: value for key, value in row.items() if key.endswith(("_ns_per_op", "_p50"))}
        assert figures, row
        assert all(value > 0 for value in figures.values()), row
        assert row["samples"] >= 1
    for ratio in document["ratios"].values():
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    assert all(line["holds"] == (line["figure"] <= line["limit"]) for line in document.get("budgets", ()))
