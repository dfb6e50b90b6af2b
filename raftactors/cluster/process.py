"""One node process: started, watched and ended by this process, and never outliving it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

import psutil

from raftactors.config import hash_seed
from raftactors.errors import (
    AddressInUseError,
    ApplicationUnknownError,
    ConfigError,
    CorruptWalError,
    DataLockedError,
    DataLostError,
    ExitCode,
    ForeignDataError,
    RaftActorsError,
    StorageError,
)

NODE_COMMAND = (sys.executable, "-P", "-m", "raftactors.node")
"""`-P` keeps the working folder out of `sys.path`: files beside the user's program must replace nothing of ours."""

NODE_MARK = "RAFTACTORS_NODE_ID"
"""Environment variable of every node process, so that a program which a node imports starts no cluster of its own."""

LOG_BYTES_MAX = 8 * 1024 * 1024
_LINE_BYTES_MAX = 64 * 1024
_LOG_TAIL_BYTES = 4096
_LOG_TAIL_LINES = 5
_STOP_TIMEOUT_S = 1.0
_STOP_POLL_S = 0.001

_ERRORS: dict[int, type[RaftActorsError]] = {
    ExitCode.CONFIG: ConfigError,
    ExitCode.APPLICATION_UNKNOWN: ApplicationUnknownError,
    ExitCode.ADDRESS_IN_USE: AddressInUseError,
    ExitCode.DATA_FOREIGN: ForeignDataError,
    ExitCode.DATA_LOCKED: DataLockedError,
    ExitCode.DATA_CORRUPT: CorruptWalError,
    ExitCode.DATA_UNREADABLE: StorageError,
    ExitCode.DATA_LOST: DataLostError,
}

_lifelines: weakref.WeakSet[Lifeline] = weakref.WeakSet()


class NodeStartError(RaftActorsError):
    """A node process ended or stayed silent before it served; the text says why, as far as its log tells."""


class Lifeline:
    """A pipe whose closing ends the node that holds the other end, however this process dies."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()
        _lifelines.add(self)

    def close_read(self) -> None:
        """The node has inherited its end."""
        if self.read_fd >= 0:
            os.close(self.read_fd)
            self.read_fd = -1

    def close(self) -> None:
        """Let go: the node ends itself. May be called twice."""
        self.close_read()
        if self._write_fd >= 0:
            os.close(self._write_fd)
            self._write_fd = -1


def _close_inherited_lifelines() -> None:
    """A forked copy of this process must not keep nodes alive when the original dies."""
    for lifeline in list(_lifelines):
        lifeline.close()


os.register_at_fork(after_in_child=_close_inherited_lifelines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process uses: per cent of one core since the last question, resident memory in bytes."""

    cpu_percent: float
    rss_bytes: int


class NodeProcess:
    """A node process that can be started, killed and started again under the same identity.

    Methods may be called from any thread. `start` writes nothing but the log: the configuration file is the caller's.
    """

    def __init__(
        self, node_id: int, config_path: Path, log_path: Path, *, command: tuple[str, ...] = NODE_COMMAND
    ) -> None:
        self.node_id = node_id
        self.config_path = config_path
        self.log_path = log_path
        self.incarnation = 0
        self.is_ready = False
        self.is_paused = False
        self._command = command
        self._lock = threading.RLock()
        self._child: subprocess.Popen[bytes] | None = None
        self._process: psutil.Process | None = None
        self._lifeline: Lifeline | None = None
        self._exit_fd = -1
        self._partial_line = b""
        self._log_start = 0

    @property
    def pid(self) -> int:
        """Process id of the running process, or of the last one that ran; 0 before the first start."""
        return 0 if self._child is None else self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process exists and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last process (minus the signal's number if one ended it), None while it runs."""
        return None if self._child is None else self._child.poll()

    @property
    def created_s(self) -> float:
        """Start time in seconds since the epoch: together with the pid it names the process beyond pid reuse."""
        return 0.0 if self._process is None else self._process.create_time()

    @property
    def stdout_fd(self) -> int:
        """What `pump` reads; -1 when nothing more comes."""
        child = self._child
        return -1 if child is None or child.stdout is None or child.stdout.closed else child.stdout.fileno()

    @property
    def exit_fd(self) -> int:
        """A descriptor that becomes readable when the process has ended (pidfd); -1 before the first start."""
        return self._exit_fd

    def start(self) -> None:
        """Spawn the process. Its standard error goes to `log_path`. Raises RaftActorsError if it runs already.

        The configuration file must name `parent_fd` as -1; the real descriptor is put in here.
        """
        with self._lock:
            if self.is_alive:
                raise RaftActorsError(f"node {self.node_id} runs already as process {self.pid}")
            self._release()
            self._trim_log()
            self._lifeline = lifeline = Lifeline()
            document = json.loads(self.config_path.read_text())
            document["parent_fd"] = lifeline.read_fd
            self.config_path.write_text(json.dumps(document, indent=2, sort_keys=True))
            with self.log_path.open("ab") as log:
                self._log_start = log.tell()
                child = subprocess.Popen(
                    [*self._command, str(self.config_path)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=self.config_path.parent,
                    env={
                        **os.environ,
                        NODE_MARK: str(self.node_id),
                        "PYTHONHASHSEED": hash_seed(document["cluster_id"]),
                    },
                    pass_fds=(lifeline.read_fd,),
                    # A group of its own: Ctrl-C on the terminal reaches us, and we end the node in order.
                    process_group=0,
                )
            lifeline.close_read()
            # Before anybody can reap the child, so that the number still means this process.
            self._exit_fd = os.pidfd_open(child.pid)
            self._process = psutil.Process(child.pid)
            self._process.cpu_percent()
            self._partial_line = b""
            self.is_ready = self.is_paused = False
            self._child = child
            os.set_blocking(self.stdout_fd, False)

    def pump(self) -> bool:
        """Take what the process has written to standard output; False when the stream has ended.

        The ready line sets `is_ready`; everything else (an application may print) goes to the log.
        """
        with self._lock:
            fd = self.stdout_fd
            if fd < 0:
                return False
            try:
                chunk = os.read(fd, _LINE_BYTES_MAX)
            except BlockingIOError:
                return True
            if self.is_ready:
                self._log(chunk)
                return bool(chunk)
            *lines, self._partial_line = (self._partial_line + chunk).split(b"\n")
            if len(self._partial_line) > _LINE_BYTES_MAX or not chunk:
                lines, self._partial_line = [*lines, self._partial_line], b""
            for line in lines:
                if self.is_ready or not self._take_ready(line):
                    self._log(line + b"\n" if line else b"")
            return bool(chunk)

    def wait_ready(self, timeout_ms: int) -> None:
        """Wait until the node serves; for a process that no Supervisor watches.

        Raises what `start_error` gives, or NodeStartError after `timeout_ms`.
        """
        deadline = time.monotonic() + timeout_ms / 1000
        with selectors.DefaultSelector() as selector:
            selector.register(self.stdout_fd, selectors.EVENT_READ)
            selector.register(self.exit_fd, selectors.EVENT_READ)
            while not self.is_ready:
                ready = {key.fd for key, _ in selector.select(max(deadline - time.monotonic(), 0))}
                if not ready:
                    raise self.silence_error(timeout_ms)
                ended = self.exit_fd in ready
                if not self.pump() and not ended:
                    selector.unregister(self.stdout_fd)
                if ended and not self.is_ready:
                    self._child_wait(1000)
                    raise self.start_error()

    def kill(self, timeout_ms: int = 5000) -> None:
        """End the process with SIGKILL and wait for it. Nothing happens if it has ended."""
        self._signal(signal.SIGKILL)
        self._child_wait(timeout_ms)

    def request_end(self) -> None:
        """Ask the process to drain and end (SIGTERM); a paused one is resumed to hear it."""
        self._signal(signal.SIGTERM)
        self.resume()

    def terminate(self, timeout_ms: int) -> int:
        """Ask the process to drain and end; SIGKILL after `timeout_ms`. Returns the exit code."""
        self.request_end()
        return self.await_end(timeout_ms)

    def await_end(self, timeout_ms: int) -> int:
        """Wait for a process that was asked to end; SIGKILL after `timeout_ms`. Returns the exit code."""
        if self._child_wait(timeout_ms) is None:
            self.kill()
        code = self.exit_code
        return 0 if code is None else code

    def pause(self) -> None:
        """Stop the process where it stands (SIGSTOP); returns when it does. Raises RaftActorsError if it does not run.

        If this program ended before, the kernel would find nothing stopped to end along with it.
        """
        if not self._signal(signal.SIGSTOP):
            raise RaftActorsError(f"node {self.node_id} does not run; restart it first")
        self.is_paused = True
        deadline_s = time.monotonic() + _STOP_TIMEOUT_S
        events = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
        with contextlib.suppress(ChildProcessError):  # It has ended, and somebody has taken note of that.
            while os.waitid(os.P_PID, self.pid, events) is None and time.monotonic() < deadline_s:
                time.sleep(_STOP_POLL_S)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        self._signal(signal.SIGCONT)
        self.is_paused = False

    def usage(self) -> Usage:
        """CPU and memory of the process, zero when it does not run."""
        process = self._process
        if process is None or not self.is_alive:
            return Usage(cpu_percent=0.0, rss_bytes=0)
        try:
            return Usage(cpu_percent=process.cpu_percent(), rss_bytes=process.memory_info().rss)
        except psutil.Error:
            return Usage(cpu_percent=0.0, rss_bytes=0)

    def exit_text(self) -> str:
        """Why the process ended, in one line: meaning of the exit code and the last of its log."""
        code = self.exit_code
        if code is None:
            return "running" if self.is_alive else "not started"
        if code < 0:
            reason = f"ended by {signal.Signals(-code).name}"
        elif code in ExitCode.__members__.values():
            reason = f"exit code {code} ({ExitCode(code).name})"
        else:
            reason = f"exit code {code}"
        return reason + self._log_suffix()

    def start_error(self) -> RaftActorsError:
        """The error that stands for an end before the node served, of the type its exit code names."""
        code = self.exit_code
        kind = _ERRORS.get(code) if code is not None else None
        for line in reversed(self._log_lines()):
            if kind is not None and line.startswith("raftactors: "):
                return kind(line.removeprefix("raftactors: "))
        return (kind or NodeStartError)(f"node {self.node_id} did not start: {self.exit_text()}")

    def silence_error(self, timeout_ms: int) -> RaftActorsError:
        """The error that stands for a process that lives but does not serve."""
        return NodeStartError(f"node {self.node_id} did not serve within {timeout_ms} ms{self._log_suffix()}")

    def close(self) -> None:
        """Kill the process if it runs and release what belongs to it."""
        self.kill()
        with self._lock:
            self._release()

    def _signal(self, number: signal.Signals) -> bool:
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                return False
            self._child.send_signal(number)
            return True

    def _child_wait(self, timeout_ms: int) -> int | None:
        if self._child is None:
            return None
        try:
            return self._child.wait(timeout_ms / 1000)
        except subprocess.TimeoutExpired:
            return None

    def _take_ready(self, line: bytes) -> bool:
        if not line.startswith(b'{"event"'):
            return False
        try:
            document = json.loads(line)
        except ValueError:
            return False
        if document.get("event") != "ready" or document.get("node_id") != self.node_id:
            return False
        self.incarnation = int(document.get("incarnation", 0))
        self.is_ready = True
        return True

    def _log(self, chunk: bytes) -> None:
        if chunk:
            with self.log_path.open("ab") as log:
                log.write(chunk)

    def _trim_log(self) -> None:
        """Start a new log file when the present one is full, keeping one old file."""
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(self.log_path.suffix + ".1"))

    def _log_lines(self) -> list[str]:
        try:
            with self.log_path.open("rb") as log:
                # Only what the last process wrote: an older failure must not explain a newer one.
                log.seek(max(self._log_start, self.log_path.stat().st_size - _LOG_TAIL_BYTES))
                return log.read(_LOG_TAIL_BYTES).decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        except OSError:
            return []

    def _log_suffix(self) -> str:
        lines = [line for line in self._log_lines() if line.strip()]
        return f": {lines[-1].removeprefix('raftactors: ')} (log: {self.log_path})" if lines else ""

    def _release(self) -> None:
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None
        if self._child is not None and self._child.stdout is not None:
            self._child.stdout.close()
        if self._exit_fd >= 0:
            os.close(self._exit_fd)
            self._exit_fd = -1
