"""One node process: started, watched and ended by this process, and never outliving it."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from raftactors.cluster.environment import node_environment
from raftactors.cluster.forking import close_inherited, let_go_after_fork
from raftactors.cluster.node_folder import write_config
from raftactors.cluster.pipes import NodePipes, Report
from raftactors.cluster.private_files import open_log
from raftactors.cluster.process_record import ProcessRecord
from raftactors.config import NodeConfig, hash_seed
from raftactors.errors import (
    AddressInUseError,
    ApplicationUnknownError,
    ConfigDisagreesError,
    ConfigError,
    CorruptWalError,
    DataLockedError,
    DataLostError,
    ExitCode,
    ForeignDataError,
    NotAMemberError,
    RaftActorsError,
    StorageError,
)

NODE_COMMAND = (sys.executable, "-P", "-m", "raftactors.node")
"""`-P` keeps the working folder out of `sys.path`: files beside the user's program must replace nothing of ours."""

NODE_MARK = "RAFTACTORS_NODE_ID"
"""Environment variable of every node process, so that a program which a node imports starts no cluster of its own."""

_OUTPUT_ENCODING = "utf-8:backslashreplace"
"""PYTHONIOENCODING of a node: what its application prints must fail nowhere, and least of all on one replica alone."""

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
    ExitCode.NOT_A_MEMBER: NotAMemberError,
    ExitCode.CONFIG_DISAGREES: ConfigDisagreesError,
}


class NodeStartError(RaftActorsError):
    """A node process ended or stayed silent before it served; the text says why, as far as its log tells."""


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
        # As it is now: a node that is started again later must not differ from the others.
        self._environment = node_environment()
        self._lock = threading.RLock()
        self._child: subprocess.Popen[bytes] | None = None
        self._exit_code: int | None = None
        self._record: ProcessRecord | None = None
        self._process: psutil.Process | None = None
        self._pipes: NodePipes | None = None
        self._report: Report | None = None
        self._exit_fd = -1
        self._log_start = 0
        let_go_after_fork(self)

    @property
    def pid(self) -> int:
        """Process id of the running process, or of the last one that ran; 0 before the first start."""
        return 0 if self._child is None else self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process exists and has not ended."""
        with self._lock:
            child = self._child
            if child is None or child.returncode is not None:
                return False
            try:
                ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                # It has ended, and its exit code is gone: this program ignores SIGCHLD, or waits for any child itself.
                child.returncode, self._exit_code = 0, None
                return False
            if ended is None:
                return True
            self._exit_code = child.wait()
            return False

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last process (minus the signal's number if one ended it), None while it runs.

        None also if somebody else took the code from the kernel and the node had not told it.
        """
        if self.is_alive or self._child is None:
            return None
        if self._exit_code is None and self._report is not None and not self._report.is_ready:
            return self._report.exit_code
        return self._exit_code

    @property
    def record(self) -> ProcessRecord | None:
        """What names the process for others, beyond the reuse of its pid; None before the first start."""
        return self._record

    @property
    def report_fd(self) -> int:
        """What `take_report` reads; -1 when nothing more comes."""
        pipes = self._pipes
        return -1 if pipes is None or pipes.is_over else pipes.report_fd

    @property
    def exit_fd(self) -> int:
        """A descriptor that becomes readable when the process has ended (pidfd); -1 before the first start."""
        return self._exit_fd

    def configure(self, config: NodeConfig) -> None:
        """Write what the node is told, at this start, which may be under way, or at the next one."""
        with self._lock:
            ends = (-1, -1) if self._pipes is None else self._pipes.child_ends
            write_config(self.config_path.parent, replace(config, parent_fd=ends[0], ready_fd=ends[1]))

    def start(self) -> None:
        """Spawn the process, with its output in `log_path`. Raises RaftActorsError if it runs already.

        The pipes to this process are put into the configuration file, which is the caller's otherwise. Raises OSError
        if the system refuses.
        """
        with self._lock:
            if self.is_alive:
                raise RaftActorsError(f"node {self.node_id} runs already as process {self.pid}")
            self._release()
            self._pipes = NodePipes()
            try:
                self._spawn(self._pipes)
            except BaseException:
                self._release()
                raise

    def take_report(self) -> bool:
        """Take what the node reports about its start, without waiting; False when nothing more comes."""
        with self._lock:
            if self._pipes is None:
                return False
            report = self._pipes.read_report(self.node_id)
            if report is not None:
                self._report = report
                self.is_ready = report.is_ready
                self.incarnation = report.incarnation or self.incarnation
            return not self._pipes.is_over

    def wait_ready(self, timeout_ms: int) -> None:
        """Wait until the node serves; for a process that no Supervisor watches.

        Raises what `start_error` gives, or NodeStartError after `timeout_ms`.
        """
        deadline = time.monotonic() + timeout_ms / 1000
        with selectors.DefaultSelector() as selector:
            selector.register(report_fd := self.report_fd, selectors.EVENT_READ)
            selector.register(self.exit_fd, selectors.EVENT_READ)
            while not self.is_ready:
                ready = {key.fd for key, _ in selector.select(max(deadline - time.monotonic(), 0))}
                if not ready:
                    raise self.silence_error(timeout_ms)
                ended = self.exit_fd in ready
                if not self.take_report() and report_fd in selector.get_map():
                    selector.unregister(report_fd)
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
        """Wait for a process that was asked to end; SIGKILL after `timeout_ms`. Returns the exit code, 0 if unknown."""
        if not self._child_wait(timeout_ms):
            self.kill()
        return self.exit_code or 0

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
        if self._child is None:
            return "not started"
        if self.is_alive:
            return "running"
        code = self.exit_code
        if code is None:
            reason = "ended; its exit code is unknown, because this program ignores SIGCHLD or waits for its children"
        elif code < 0:
            reason = f"ended by {signal.Signals(-code).name}"
        elif code in ExitCode.__members__.values():
            reason = f"exit code {code} ({ExitCode(code).name})"
        else:
            reason = f"exit code {code}"
        return reason + self._log_suffix()

    def start_error(self) -> RaftActorsError:
        """The error that stands for an end before the node served, of the type its exit code names."""
        if (reported := self._reported_error()) is not None:
            return reported
        code = self.exit_code
        kind = _ERRORS.get(code) if code is not None else None
        for line in reversed(self._log_lines()):
            if kind is not None and line.startswith("raftactors: "):
                return kind(line.removeprefix("raftactors: "))
        return (kind or NodeStartError)(f"node {self.node_id} did not start: {self.exit_text()}")

    def silence_error(self, timeout_ms: int) -> RaftActorsError:
        """The error that stands for a process that lives but does not serve."""
        if (reported := self._reported_error()) is not None:
            return reported
        return NodeStartError(f"node {self.node_id} did not serve within {timeout_ms} ms{self._log_suffix()}")

    def close(self) -> None:
        """Kill the process if it runs and release what belongs to it."""
        self.kill()
        with self._lock:
            self._release()

    def let_go(self) -> None:
        """In a forked copy: the process belongs to the original, so there is none here."""
        self._exit_fd = close_inherited(self._exit_fd)
        if self._child is not None:
            self._child.returncode = 0  # Else it would be waited for when it is collected.
        self._child = self._process = self._pipes = None

    def _spawn(self, pipes: NodePipes) -> None:
        config = NodeConfig.from_json(self.config_path.read_text(encoding="utf-8"))
        self.configure(config)
        self._report, self.is_ready, self.is_paused = None, False, False
        with open_log(self.log_path) as log:
            self._log_start = log.tell()
            child = subprocess.Popen(
                [*self._command, str(self.config_path)],
                stdin=subprocess.DEVNULL,
                # A file, not a pipe: nobody has to read for the node to go on.
                stdout=log,
                stderr=log,
                cwd=self.config_path.parent,
                env={
                    **self._environment,
                    NODE_MARK: str(self.node_id),
                    "PYTHONHASHSEED": hash_seed(config.cluster_id),
                    "PYTHONIOENCODING": _OUTPUT_ENCODING,
                },
                pass_fds=(pipes.parent_fd, pipes.ready_fd),
                # A group of its own: Ctrl-C on the terminal reaches us, and we end the node in order.
                process_group=0,
            )
        pipes.close_child_ends()
        self._child, self._exit_code = child, None
        try:
            # Before anybody can reap the child, so that the number still means this process.
            self._exit_fd = os.pidfd_open(child.pid)
            self._record = ProcessRecord.of(child.pid, node_id=self.node_id)
            self._process = psutil.Process(child.pid)
            self._process.cpu_percent()
        except (OSError, psutil.Error) as error:
            child.kill()
            child.wait()
            raise OSError(f"process {child.pid} ended at once, or cannot be watched: {error}") from error

    def _reported_error(self) -> RaftActorsError | None:
        """What the node itself said, which no program between it and this one can lose."""
        report = self._report
        kind = None if report is None else _ERRORS.get(report.exit_code)
        return None if report is None or kind is None else kind(report.text)

    def _signal(self, number: signal.Signals) -> bool:
        with self._lock:
            if not self.is_alive:
                return False
            try:
                # Never by the number alone: somebody else may have reaped the child, and it may mean another process.
                signal.pidfd_send_signal(self._exit_fd, number)
            except ProcessLookupError:
                return False
            return True

    def _child_wait(self, timeout_ms: int) -> bool:
        """Whether it has ended, or never ran."""
        if self._exit_fd >= 0:
            ended = select.poll()
            ended.register(self._exit_fd, select.POLLIN)
            ended.poll(timeout_ms)
        return not self.is_alive

    def _log_lines(self) -> list[str]:
        try:
            with self.log_path.open("rb") as log:
                size = os.fstat(log.fileno()).st_size
                # Only what the last process wrote: an older failure must not explain a newer one. A shorter log is new.
                start = self._log_start if size >= self._log_start else 0
                log.seek(max(start, size - _LOG_TAIL_BYTES))
                return log.read(_LOG_TAIL_BYTES).decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        except OSError:
            return []

    def _log_suffix(self) -> str:
        lines = [line for line in self._log_lines() if line.strip()]
        # What the node said of its end is worth more than what its application printed last.
        said = [line for line in lines if line.startswith("raftactors: ")] or lines
        return f": {said[-1].removeprefix('raftactors: ')} (log: {self.log_path})" if said else ""

    def _release(self) -> None:
        if self._pipes is not None:
            self._pipes.close()
            self._pipes = None
        self._exit_fd = close_inherited(self._exit_fd)
