from pathlib import Path

import pytest

from pipeline.errors import RunHeldError
from pipeline.run.directory import RunLock, create_run_directory, new_run_id, runs_folder


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
