"""Durations, run names, TOML text: the small parts of the command."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.durations import parse_duration_s
from pipeline.errors import RunHeldError
from pipeline.runs import RunLock, create_run_directory, new_run_id, runs_folder
from pipeline.toml_text import to_toml

keys = st.text(min_size=1, max_size=6)
scalars = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.booleans(), st.text(), st.floats(allow_nan=False, allow_infinity=True)
)
trees = st.recursive(
    st.dictionaries(keys, scalars | st.lists(scalars, max_size=3), max_size=4),
    lambda inner: st.dictionaries(keys, scalars | inner | st.lists(inner, min_size=1, max_size=2), max_size=4),
    max_leaves=10,
)


@given(trees)
def test_what_is_written_as_toml_reads_back_as_itself(tree: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(tree)) == tree


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("2m", 120), ("1h", 3600), ("1.5 s", 1.5), ("3", 3)]
)
def test_durations_are_understood(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0s", "-1s", "10x", "1h30m", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|above 0"):
        parse_duration_s(text)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_one_run_at_a_time_holds_a_name(state: Path) -> None:
    first = RunLock("main", "main-1", "t1-")
    with pytest.raises(RunHeldError, match="main-1") as caught:
        RunLock("main", "main-2", "t1-")
    assert caught.value.exit_code == 5
    RunLock("other", "other-1", "t1-").release()
    first.release()
    RunLock("main", "main-3", "t1-").release()


def test_a_run_directory_is_its_users_alone(state: Path) -> None:
    directory = create_run_directory(new_run_id("main"))
    assert directory.path.parent == runs_folder() == state / "tickpipe" / "runs"
    assert directory.path.stat().st_mode & 0o777 == 0o700
    assert directory.logs.is_dir()


def test_words_that_nobody_can_read_any_more_are_lost_without_harm() -> None:
    code = (
        "import sys; from pipeline.terminal import Terminal; t = Terminal(); t.say('first'); sys.stdin.read();"
        "t.say('lost'); t.warn('lost', 'lost'); t.status(lambda: 'lost'); t.end_drawing(); print('alive')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    assert process.stderr.readline() == b"first\n"
    process.stderr.close()
    process.stderr = None
    out, _ = process.communicate(b"", timeout=20)
    assert (process.returncode, out) == (0, b"alive\n")
