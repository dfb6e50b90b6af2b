from __future__ import annotations

import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from raftactors.cluster.control import ControlServer, NoControlError, ask
from raftactors.errors import ClusterUnreachableError, DataLockedError, ExitCode, RaftActorsError


def handle(operation: str, node_id: int | None) -> object:
    if operation == "refuse":
        raise DataLockedError("held; wait")
    if operation == "odd":
        error = RaftActorsError("odd")
        error.exit_code = ExitCode.ACTOR_HUNG
        raise error
    return [operation, node_id]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    with closing(ControlServer(handle, tmp_path, closes_after=lambda operation: operation == "down")) as server:
        yield server


def exchange(path: str, sent: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(path)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(65_536)


def test_results_and_errors_come_back(server: ControlServer) -> None:
    assert ask(server.path, "kill", 2) == ["kill", 2]
    assert ask(server.path, "status") == ["status", None]
    with pytest.raises(DataLockedError, match="held; wait"):
        ask(server.path, "refuse")
    with pytest.raises(RaftActorsError, match="odd") as caught:
        ask(server.path, "odd")
    assert caught.value.exit_code is ExitCode.ACTOR_HUNG


def test_the_door_is_for_its_owner_alone_and_goes_when_it_closes(
    server: ControlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftactors.cluster.control._REMAKE_WAIT_S", 0.1)
    folder = Path(server.path).parent
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    server.close()
    assert not folder.exists()
    with pytest.raises(NoControlError, match=r"does not answer at .*control/socket"):
        ask(server.path, "status")


def test_a_data_folder_with_a_path_that_no_socket_may_have(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with closing(ControlServer(handle, folder)) as server:
        assert Path(server.path).parent.parent == folder
        assert ask(server.path, "status") == ["status", None]


def test_a_file_system_without_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # Nothing can be made in a folder that is none.
    with closing(ControlServer(handle, Path("/proc"))) as server:
        assert Path(server.path).parent.parent == tmp_path
        assert ask(server.path, "status") == ["status", None]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["socket", "folder"])
def test_a_socket_that_was_removed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr("raftactors.cluster.control._LOOK_S", 0.05)
    with closing(ControlServer(handle, tmp_path)) as server:
        if what == "socket":
            Path(server.path).unlink()
        else:
            shutil.rmtree(Path(server.path).parent)
        assert ask(server.path, "status") == ["status", None]


def test_a_socket_left_by_a_killed_supervisor_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    path = tmp_path / "control" / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    with closing(ControlServer(handle, tmp_path)) as server:
        assert server.path == str(path)
        assert ask(server.path, "status") == ["status", None]


@pytest.mark.parametrize(
    "sent",
    [b"", b"{", b"null\n", b'{"version": 2}\n', b'{"version": 1}\n', b'{"version": 1, "operation": 5}\n',
     b'{"version": 1, "operation": "kill", "node": "1"}\n', b"\xff\xfe\n", b"[" * 4000 + b"\n", b"x" * 5000],
)  # fmt: skip
def test_odd_requests_get_an_error_and_do_no_harm(server: ControlServer, sent: bytes) -> None:
    assert b'"error"' in exchange(server.path, sent)
    assert ask(server.path, "status") == ["status", None]


def test_a_silent_connection_delays_others_only_for_a_while(
    server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftactors.cluster.control._REQUEST_TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(server.path)
        assert ask(server.path, "status") == ["status", None]


def test_the_last_operation_is_answered_before_the_door_closes(server: ControlServer) -> None:
    assert ask(server.path, "down") == ["down", None]
    server.close()
    assert "raftactors-control" not in {thread.name for thread in threading.enumerate()}


def test_an_answer_of_another_version_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b'{"version": 2, "result": 1}\n')

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ClusterUnreachableError, match="another version"):
            ask(path, "status")
        thread.join(20)


def test_an_unknown_kind_of_error_stays_an_error(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(operation: str, node_id: int | None) -> object:
        raise OSError(28, "no space")

    monkeypatch.setattr(server, "_handler", fail)
    with pytest.raises(RaftActorsError, match="no space"):
        ask(server.path, "status")
