"""The control socket's server against clients of every kind, over real sockets; its folder, its name, its mode."""

import json
import os
import resource
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launch.control.client import GoneError, HangsError, ask
from launch.control.path import PATH_BYTES_MOST, create_socket, remove_socket
from launch.control.protocol import REQUEST_BYTES_MOST, ControlError
from launch.control.server import CLIENTS_MOST, PATIENCE_S, ControlServer, Handler, Pending
from launch.errors import LaunchError
from launch.supervision.signals import Signals

BIG = 4 * 2**20


class Served:
    """A server, and the loop of the supervisor that it lives in; turned by hand, on a clock of the test's."""

    def __init__(self, folder: Path, handlers: Mapping[str, Handler]) -> None:
        self.now_s = 100.0
        self.signals = Signals()
        self.listener, self.path = create_socket("test")
        self.server = ControlServer(self.listener, self.signals, handlers, clock=lambda: self.now_s)
        self.signals.attend(self.server.attend)
        assert self.path.parent == folder

    def turn(self, times: int = 1) -> None:
        """One wait that does not wait."""
        for _ in range(times):
            self.signals.wait(0)

    def connect(self) -> socket.socket:
        """A client that does not wait for anything either."""
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.path))
        client.settimeout(5)
        return client

    def say(self, *lines: bytes) -> list[Any]:
        """What is answered when these bytes come, one after the other, on one connection; [] for nothing."""
        with closing(self.connect()) as client:
            self.turn(2)
            for line in lines:
                client.sendall(line)
                self.turn(2)
            return self.answer(client)

    def answer(self, client: socket.socket) -> list[Any]:
        """The lines that a client has got so far."""
        client.setblocking(False)
        got = b""
        try:
            while chunk := client.recv(65_536):
                got += chunk
                self.turn()
        except (BlockingIOError, ConnectionResetError):
            pass
        return [json.loads(line) for line in got.splitlines()]


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(os.path.realpath(tmp_path)) / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def _refuse(request: Mapping[str, Any]) -> Mapping[str, Any]:
    raise ControlError("no", "do this", 3)


def _raise(request: Mapping[str, Any]) -> Mapping[str, Any]:
    raise RuntimeError("a bug")


@pytest.fixture
def pending() -> Pending:
    return Pending()


@pytest.fixture
def served(runtime: Path, pending: Pending) -> Iterator[Served]:
    made = Served(
        runtime,
        {
            "echo": dict,
            "refuse": _refuse,
            "launch": lambda request: (_ for _ in ()).throw(LaunchError("cannot", "wait")),
            "raise": _raise,
            "odd": lambda request: {"not JSON": object()},
            "big": lambda request: {"x": "y" * BIG},
            "later": lambda request: pending,
        },
    )
    yield made
    made.server.close(0)
    remove_socket(made.path)


@pytest.fixture
def looping(served: Served) -> Iterator[Served]:
    """The loop turns by itself, in a thread, so that the real client can be used."""
    served.server._clock = time.monotonic
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            served.signals.wait(0.01)

    thread = threading.Thread(target=loop)
    thread.start()
    yield served
    stop.set()
    thread.join()


def request(verb: str, **more: Any) -> bytes:
    return json.dumps({"version": 1, "verb": verb, **more}).encode() + b"\n"


# -- the protocol ------------------------------------------------------------------------------------------------


def test_a_request_is_answered_and_the_connection_closed(served: Served) -> None:
    assert served.say(request("echo", x=1)) == [
        {"version": 1, "ok": True, "result": {"version": 1, "verb": "echo", "x": 1}}
    ]
    assert served.server.client_count == 0


def test_a_request_may_come_in_pieces(served: Served) -> None:
    line = request("echo")
    assert served.say(*(line[at : at + 1] for at in range(len(line))))[0]["ok"]


def test_what_follows_a_request_is_not_read(served: Served) -> None:
    assert len(served.say(request("echo") + request("echo") + b"more")) == 1


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"\n", "not a JSON object"),
        (b"\xff\xfe\x00\n", "not a JSON object"),
        (b"[1, 2]\n", "not a JSON object"),
        (b"[" * 4000 + b"\n", "not a JSON object"),
        (b'{"version": 1' + b"\n", "not a JSON object"),
        (b'{"verb": "echo"}\n', "version None"),
        (b'{"version": 2, "verb": "echo"}\n', "version 2"),
        (b'{"version": true, "verb": "echo"}\n', "version True"),
        (b'{"version": 1}\n', "names no verb"),
        (b'{"version": 1, "verb": 7}\n', "names no verb"),
        (b'{"version": 1, "verb": "dance"}\n', "'dance' is not known"),
        (b"x" * (REQUEST_BYTES_MOST + 1), "longer than"),
        (b'{"version": 1, "verb": "' + b"v" * REQUEST_BYTES_MOST + b'"}\n', "longer than"),
    ],
)
def test_what_is_no_request_is_answered_with_what_is_wrong(served: Served, line: bytes, error: str) -> None:
    (answer,) = served.say(line)
    assert (answer["version"], answer["ok"], answer["exit_code"]) == (1, False, 2)
    assert error in answer["error"]
    assert len(answer["error"]) < 200
    assert served.say(request("echo"))[0]["ok"]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=600), max_size=5))
def test_any_bytes_get_one_answer_or_none_and_harm_nobody(served: Served, chunks: list[bytes]) -> None:
    with closing(served.connect()) as client:
        served.turn(2)
        for chunk in chunks:
            try:
                client.sendall(chunk)
            except (BrokenPipeError, ConnectionResetError):
                break
            served.turn(2)
        answers = served.answer(client)
    served.turn(2)
    assert len(answers) == (b"\n" in b"".join(chunks))
    assert served.server.client_count == 0


@pytest.mark.parametrize(
    ("verb", "answer"),
    [
        ("refuse", {"error": "no", "hint": "do this", "exit_code": 3}),
        ("launch", {"error": "cannot", "hint": "wait", "exit_code": 2}),
        ("raise", {"error": "the supervisor failed at it: RuntimeError('a bug')", "hint": "", "exit_code": 3}),
    ],
)
def test_what_a_handler_raises_is_the_answer(served: Served, verb: str, answer: dict[str, Any]) -> None:
    assert served.say(request(verb)) == [{"version": 1, "ok": False, **answer}]


def test_a_result_that_is_not_json_is_an_error_not_a_crash(served: Served) -> None:
    (answer,) = served.say(request("odd"))
    assert (answer["ok"], answer["exit_code"]) == (False, 3)


# -- answers that come later -------------------------------------------------------------------------------------


def test_a_pending_answer_is_given_when_it_is_completed_and_others_are_served_meanwhile(
    served: Served, pending: Pending
) -> None:
    with closing(served.connect()) as client:
        client.sendall(request("later"))
        served.turn(3)
        served.now_s += 1000
        served.turn(3)
        assert served.answer(client) == []
        assert served.say(request("echo"))[0]["ok"]
        pending.complete({"done": 1})
        served.turn()
        assert served.answer(client)[0]["result"] == {"done": 1}


def test_a_pending_answer_can_be_polled_and_can_fail(runtime: Path) -> None:
    states: list[Any] = [None, None, {"n": 2}]

    def look() -> Any:
        return states.pop(0)

    def fail() -> Any:
        raise LaunchError("it died", "look")

    served = Served(runtime, {"poll": lambda request: Pending(look), "fail": lambda request: Pending(fail)})
    with closing(served.connect()) as polling, closing(served.connect()) as failing:
        polling.sendall(request("poll"))
        failing.sendall(request("fail"))
        served.turn(8)
        assert served.answer(polling)[0]["result"] == {"n": 2}
        assert served.answer(failing)[0]["error"] == "it died"
    served.server.close(0)


def test_one_that_goes_on_talking_while_it_waits_wakes_nobody(served: Served) -> None:
    with closing(served.connect()) as client:
        client.sendall(request("later"))
        served.turn(3)
        client.sendall(request("echo") * 10)
        assert served.signals._selector.select(0) == []


def test_a_client_that_leaves_before_its_answer_harms_nobody(served: Served, pending: Pending) -> None:
    with closing(served.connect()) as client:
        client.sendall(request("later"))
        served.turn(3)
    served.turn(3)
    pending.complete({})
    served.turn(3)
    assert served.server.client_count == 0
    assert served.say(request("echo"))[0]["ok"]


def test_at_the_end_what_is_known_is_said_and_what_is_not_is_refused(served: Served, pending: Pending) -> None:
    with closing(served.connect()) as known:
        known.sendall(request("later"))
        served.turn(3)
        pending.complete({"done": 1})
        served.server.close()
        assert served.answer(known)[0]["result"] == {"done": 1}
    assert served.server.client_count == 0
    served.turn()  # a loop that goes on does not mind


def test_at_the_end_a_request_that_is_not_done_is_refused(served: Served) -> None:
    with closing(served.connect()) as client:
        client.sendall(request("later"))
        served.turn(3)
        served.server.close()
        (answer,) = served.answer(client)
        assert (answer["ok"], answer["exit_code"]) == (False, 3)
        assert "before that was done" in answer["error"]


# -- clients that cost something ---------------------------------------------------------------------------------


def test_one_that_says_nothing_or_half_a_line_is_cut_off(served: Served) -> None:
    with closing(served.connect()) as silent, closing(served.connect()) as half:
        half.sendall(b'{"version"')
        served.turn(4)
        assert served.server.client_count == 2
        served.now_s += PATIENCE_S / 2
        half.sendall(b":")
        served.turn(2)
        assert served.server.client_count == 2
        served.now_s += PATIENCE_S / 2 + 0.1
        served.turn(2)
        assert served.server.client_count == 0
        assert served.answer(silent) == served.answer(half) == []


def test_one_that_does_not_take_its_answer_is_cut_off_and_one_that_does_slowly_gets_it_all(served: Served) -> None:
    with closing(served.connect()) as slow, closing(served.connect()) as deaf:
        slow.sendall(request("big"))
        deaf.sendall(request("big"))
        served.turn(6)
        assert served.server.client_count == 2
        (answer,) = served.answer(slow)
        assert len(answer["result"]["x"]) == BIG
        assert served.server.client_count == 1
        served.now_s += PATIENCE_S + 0.1
        served.turn()
        assert served.server.client_count == 0


def test_more_clients_than_there_is_room_for_wait_in_the_backlog(served: Served) -> None:
    clients = []
    for _ in range(CLIENTS_MOST + 8):
        clients.append(served.connect())
        served.turn(2)
    assert served.server.client_count == CLIENTS_MOST
    clients[-1].sendall(request("echo"))
    served.turn(3)
    assert served.answer(clients[-1]) == []
    for client in clients[:CLIENTS_MOST]:
        client.close()
    served.turn(3 * len(clients))
    assert served.answer(clients[-1])[0]["ok"]
    for client in clients:
        client.close()
    served.turn(2 * len(clients))
    assert served.server.client_count == 0


def test_between_two_waits_one_request_is_handled(runtime: Path) -> None:
    handled: list[int] = []
    served = Served(runtime, {"count": lambda request: handled.append(1) or {}})
    clients = [served.connect() for _ in range(5)]
    served.turn(10)
    for client in clients:
        client.sendall(request("count"))
    for turns in range(1, 6):
        served.turn()
        assert len(handled) == turns
    for client in clients:
        client.close()
    served.server.close(0)


def test_without_a_descriptor_left_it_neither_spins_nor_dies(served: Served) -> None:
    with closing(served.connect()) as client:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            served.turn(2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        served.turn(2)
        assert served.server.client_count == 0  # it listens again after a pause
        served.now_s += 2
        client.sendall(request("echo"))
        served.turn(4)
        assert served.answer(client)[0]["ok"]


# -- who may ask -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_not_heard_even_where_the_mode_lets_him_connect(runtime: Path) -> None:
    served = Served(runtime, {"echo": dict})
    served.path.chmod(0o666)
    for folder in (runtime, *runtime.parents[:-2]):
        folder.chmod(0o755)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setuid(65534)
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(served.path))
            client.settimeout(10)
            try:
                client.sendall(request("echo"))
                code = 2 if client.recv(100) else 0
            except ConnectionError:
                code = 0
        finally:
            os._exit(code)
    end_s = time.monotonic() + 10
    status = (0, 0)
    while status[0] == 0 and time.monotonic() < end_s:
        served.signals.wait(0.01)
        status = os.waitpid(child, os.WNOHANG)
    served.server.close(0)
    assert status == (child, 0)


# -- the client --------------------------------------------------------------------------------------------------


def test_the_client_gets_results_and_refusals(looping: Served) -> None:
    assert ask(looping.path, "echo", {"x": 1})["x"] == 1
    assert len(ask(looping.path, "big", {})["x"]) == BIG
    with pytest.raises(ControlError, match="no") as caught:
        ask(looping.path, "refuse", {})
    assert (caught.value.hint, caught.value.exit_code) == ("do this", 3)


def test_the_client_waits_for_a_supervisor_that_works_on_it(looping: Served, pending: Pending) -> None:
    timer = threading.Timer(0.4, pending.complete, [{"done": 1}])
    timer.start()
    assert ask(looping.path, "later", {}, silence_s=0.1) == {"done": 1}
    timer.join()


def test_the_client_tells_one_that_hangs_from_one_that_is_gone(served: Served) -> None:
    with pytest.raises(HangsError, match=r"does not react for 0\.1 s"):
        ask(served.path, "echo", {}, silence_s=0.1)
    clients: list[socket.socket] = []
    while True:  # fill its backlog
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].setblocking(False)
        if clients[-1].connect_ex(str(served.path)):
            break
    with pytest.raises(HangsError):
        ask(served.path, "echo", {}, silence_s=0.1)
    for client in clients:
        client.close()
    served.server.close(0)
    with pytest.raises(GoneError, match="refused"):
        ask(served.path, "echo", {})
    remove_socket(served.path)
    with pytest.raises(GoneError, match="No such file"):
        ask(served.path, "echo", {})


def test_the_client_says_when_the_supervisor_ends_without_an_answer(looping: Served, pending: Pending) -> None:
    threading.Timer(0.1, lambda: looping.server._drop(looping.server._clients[0])).start()
    with pytest.raises(GoneError, match="without an answer"):
        ask(looping.path, "later", {})


# -- the socket's place ------------------------------------------------------------------------------------------


def _place(name: str = "default") -> tuple[Path, int]:
    listener, path = create_socket(name)
    mode = stat.S_IMODE(path.lstat().st_mode)
    listener.close()
    remove_socket(path)
    assert not path.exists()
    return path, mode


def test_the_socket_is_0600_from_the_first_moment_in_the_runtime_folder(runtime: Path) -> None:
    mask = os.umask(0)
    try:
        path, mode = _place()
        assert os.umask(0) == 0, "the umask is as it was"
    finally:
        os.umask(mask)
    assert (path.parent, mode) == (runtime, 0o600)


@pytest.mark.parametrize("length", [40, 51, 52, 100, 150])
def test_its_path_fits_however_long_names_and_folders_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    base = Path("/tmp") / f"tickpipe-test-{os.getpid()}"
    folder = base / ("f" * (length - len(str(base)) - 1))
    folder.mkdir(mode=0o700, parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    try:
        path, mode = _place("n" * 32)
    finally:
        folder.rmdir()
        base.rmdir()
    assert len(os.fsencode(path)) <= PATH_BYTES_MOST
    assert mode == 0o600
    assert path.parent == (folder if len(str(folder)) + 1 + len(path.name) <= PATH_BYTES_MOST else Path("/tmp"))


@pytest.mark.parametrize("given", ["", "relative", "/nowhere/at/all", "/proc"])
def test_without_a_runtime_folder_it_is_in_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", given)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert _place()[0].parent == Path(os.path.realpath(tmp_path))


def test_a_folder_in_which_others_may_replace_it_is_not_used(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = runtime.parent
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    runtime.chmod(0o777)
    assert _place()[0].parent == temporary
    runtime.chmod(0o1777)
    assert _place()[0].parent == runtime


def test_nobody_can_lie_in_wait_for_its_name(runtime: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taken = ["aaaaaaaa", "bbbbbbbb", "cccccccc"]
    target = tmp_path / "target"
    (runtime / "tickpipe-default-aaaaaaaa.sock").symlink_to(target)
    (runtime / "tickpipe-default-bbbbbbbb.sock").write_text("a file")
    monkeypatch.setattr("secrets.token_hex", lambda count: taken.pop(0))
    assert _place()[0].name == "tickpipe-default-cccccccc.sock"
    assert not target.exists()
    assert (runtime / "tickpipe-default-bbbbbbbb.sock").read_text() == "a file"


def test_where_no_folder_can_hold_it_an_error_says_so(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.control.path._is_ours_alone", lambda folder: False)
    with pytest.raises(LaunchError, match="no control socket") as caught:
        create_socket("default")
    assert "XDG_RUNTIME_DIR" in caught.value.hint


def test_only_a_socket_of_ours_is_removed(runtime: Path, until: Callable[..., None]) -> None:
    file, link = runtime / "tickpipe-file.sock", runtime / "tickpipe-link.sock"
    listener, path = create_socket("default")
    file.write_text("kept")
    link.symlink_to(path)
    for other in (file, link, runtime / "tickpipe-nothing.sock"):
        assert not remove_socket(other)
    assert file.exists()
    assert link.is_symlink()
    assert remove_socket(path)
    listener.close()
