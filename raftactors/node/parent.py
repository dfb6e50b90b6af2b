"""What a node process shares with the one that started it: signals, a report of how the start went, and its end."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import stat
from collections.abc import Callable, Mapping

from raftactors.config import NodeConfig
from raftactors.errors import ConfigError, ExitCode

REPORT_BYTES_MAX = 4_096
"""One report: what a pipe takes at once, whether or not somebody reads."""

_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
_LOOK_S = 1.0
_LOOK_BYTES = 4_096
_TEXT_CHARACTERS_MAX = 3_000 // 4
_KEPT_IGNORED = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Python ignores them in every process; libzmq relies on the first."""


class ParentLink:
    """The two pipes of a node that a supervisor has started; without them the ready line goes to standard output.

    Raises ConfigError if a descriptor that the configuration names is no open pipe.
    """

    def __init__(self, config: NodeConfig) -> None:
        for name, descriptor in (("parent_fd", config.parent_fd), ("ready_fd", config.ready_fd)):
            if descriptor >= 0:
                _check_pipe(name, descriptor)
                # Programs that the application starts are no part of this.
                os.set_inheritable(descriptor, False)
        self.parent_fd = config.parent_fd
        self._ready_fd = config.ready_fd

    @property
    def is_supervised(self) -> bool:
        """Whether somebody waits for the report, who then also gave the log."""
        return self._ready_fd >= 0

    def report(self, document: Mapping[str, object], print_line: Callable[[str], None]) -> None:
        """Tell the supervisor that the node serves, or print that; once."""
        line = json.dumps(document)
        if self.is_supervised:
            self._send(line)
        else:
            print_line(line)

    def report_failure(self, text: str, code: int) -> None:
        """Tell the supervisor, if there is one that was not told anything yet, why the node does not serve."""
        if self._ready_fd >= 0:
            self._send(json.dumps({"event": "failed", "exit_code": code, "text": text[:_TEXT_CHARACTERS_MAX]}))

    def _send(self, line: str) -> None:
        descriptor, self._ready_fd = self._ready_fd, -1
        try:
            os.write(descriptor, line.encode() + b"\n")
        except BrokenPipeError:
            pass  # The supervisor has gone; the other pipe says so as well.
        finally:
            os.close(descriptor)


def take_signals(*, is_supervised: bool) -> None:
    """Begin with no signal blocked, and under a supervisor with none ignored, whatever this process has inherited.

    A node that is started by hand keeps SIGHUP and SIGINT ignored: that is how `nohup` and `&` in scripts work.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    kept = _KEPT_IGNORED if is_supervised else _KEPT_IGNORED | {signal.SIGHUP, signal.SIGINT}
    for number in signal.valid_signals() - kept:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


class StopSignals:
    """Takes SIGTERM and SIGINT from now on, so that none is lost that comes before `wait`."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno())
        signal.signal(signal.SIGTERM, lambda *_: None)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, lambda *_: None)

    def wait(self, parent_fd: int, look_after: Callable[[], None], trouble_fd: int) -> ExitCode:
        """Sleep until a stop signal (OK) or until the parent's end of the pipe closes (PARENT_DIED).

        FAILURE says that `trouble_fd` became readable. `look_after` is called about every second meanwhile.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            selector.register(trouble_fd, selectors.EVENT_READ)
            if parent_fd >= 0:
                selector.register(parent_fd, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select(_LOOK_S)]
                # The application may have handlers of its own, whose signals are told here as well.
                if self._reader in ready and not _STOP_SIGNALS.isdisjoint(self._reader.recv(_LOOK_BYTES)):
                    return ExitCode.OK
                if parent_fd in ready:
                    return ExitCode.PARENT_DIED
                if trouble_fd in ready:
                    return ExitCode.FAILURE
                look_after()

    def close(self) -> None:
        """Take no more note of signals; they end nothing either."""
        signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()


def _check_pipe(name: str, descriptor: int) -> None:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        mode = 0
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        raise ConfigError(f"{name} is {descriptor}, which is no open pipe; leave it out to start a node by hand")
