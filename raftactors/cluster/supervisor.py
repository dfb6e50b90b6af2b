"""Keeps the node processes of one cluster running, in one thread that sleeps until something happens."""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from raftactors.cluster.forking import close_inherited, let_go_after_fork
from raftactors.cluster.process import NodeProcess, NodeStartError
from raftactors.errors import ConfigError, ExitCode, RaftActorsError

_log = logging.getLogger(__name__)

_INCURABLE = frozenset(
    {
        ExitCode.USAGE,
        ExitCode.CONFIG,
        ExitCode.APPLICATION_UNKNOWN,
        ExitCode.DATA_FOREIGN,
        ExitCode.DATA_LOCKED,
        ExitCode.DATA_CORRUPT,
        ExitCode.DATA_LOST,
        ExitCode.NOT_A_MEMBER,
        ExitCode.CONFIG_DISAGREES,
    }
)
"""Starting again cannot help: a person has to look."""

_DAMAGED = frozenset({ExitCode.DATA_CORRUPT, ExitCode.DATA_LOST})
"""The node needs `raftactors rebuild`; the others do not need it, as long as they are a majority."""


class NodeState(StrEnum):
    """What the supervisor knows about one node process."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    WAITING = "waiting"
    """Died on its own; the next start follows after the back-off."""
    KILLED = "killed"
    """Dead on request, until `restart`."""
    FAILED = "failed"
    """Died in a way that starting again does not cure, or too often."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """How long to wait before the n-th start in a row: `first_ms` doubled each time, at most `last_ms`.

    A node that served for `stable_ms` starts counting anew; after `attempts_max` starts in a row it is given up.
    """

    first_ms: int = 100
    last_ms: int = 10_000
    stable_ms: int = 30_000
    attempts_max: int = 20

    def delay_ms(self, attempt: int) -> int:
        """The wait before `attempt`, counted from 1."""
        return int(min(self.last_ms, self.first_ms * 2 ** min(attempt - 1, 30)))


@dataclass(slots=True)
class _Watch:
    """One node as the supervisor sees it. `restarts` counts starts after a death that nobody asked for."""

    process: NodeProcess
    state: NodeState = NodeState.STOPPED
    reason: str = ""
    restarts: int = 0
    attempt: int = 0
    wanted: bool = False
    awaited: bool = False
    is_started: bool = False
    """Whether the process that runs, or ran last, belongs to the latest wish."""
    due_s: float = 0.0
    served_since_s: float = 0.0
    error: RaftActorsError | None = None
    fds: list[int] = field(default_factory=list)


class Supervisor:
    """Starts nodes, restarts those that died on their own, leaves dead those that were killed on request.

    `start` leaves out up to `damaged_max` nodes whose data is damaged or lost. All methods may be called from any
    thread; `on_change` is called from the supervising thread after a node's process
    or state has changed.
    """

    def __init__(
        self,
        processes: Mapping[int, NodeProcess],
        *,
        back_off: BackOff | None = None,
        start_timeout_ms: int = 30_000,
        drain_ms: int = 2_000,
        damaged_max: int = 0,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._watches = {node_id: _Watch(process) for node_id, process in processes.items()}
        self._back_off = back_off or BackOff()
        self._start_timeout_ms = start_timeout_ms
        self._end_timeout_ms = drain_ms + 3_000
        self._damaged_max = damaged_max
        self._on_change = on_change
        self._changed = threading.Condition()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_fd, selectors.EVENT_READ)
        self._is_closing = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="raftactors-supervisor", daemon=True)
        let_go_after_fork(self)

    def start(self) -> None:
        """Start every node and return when all serve that can. Raises a node's start error, with all nodes ended."""
        self._thread.start()
        try:
            self._request_start(tuple(self._watches), damaged_max=self._damaged_max)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let all nodes drain and end, kill what is left, end the thread. May be called twice."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            for watch in self._watches.values():
                watch.state = NodeState.STOPPED
                watch.wanted = watch.awaited = False
            self._changed.notify_all()
        processes = [watch.process for watch in self._watches.values()]
        for process in processes:
            process.request_end()
        deadline = time.monotonic() + self._end_timeout_ms / 1000
        for process in processes:
            # Asked once: a second SIGTERM would find an interpreter that is on its way out, with no handler any more.
            process.await_end(max(0, int((deadline - time.monotonic()) * 1000)))
        with self._changed:
            self._is_closing = True
        self._wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._selector.close()
        self._wake_fd = close_inherited(self._wake_fd)
        for process in processes:
            process.close()

    def let_go(self) -> None:
        """In a forked copy: there is no thread, and no node of its own."""
        self._is_closed = True
        self._selector.close()
        self._wake_fd = close_inherited(self._wake_fd)

    def state(self, node_id: int) -> NodeState:
        """State of one node. Raises ConfigError for an unknown id."""
        return self._find(node_id).state

    def reason(self, node_id: int) -> str:
        """Why the node is not running, in one line; empty if it runs."""
        return self._find(node_id).reason

    def restarts(self, node_id: int) -> int:
        """How often the node was started again after it had died on its own."""
        return self._find(node_id).restarts

    def kill(self, node_id: int) -> None:
        """End the node with SIGKILL; it stays dead until `restart`."""
        watch = self._find(node_id)
        self._set_down(watch, NodeState.KILLED, "killed on request; `restart` starts it again")
        watch.process.kill()

    def pause(self, node_id: int) -> None:
        """Stop the node's process where it stands (SIGSTOP)."""
        watch = self._find(node_id)
        with self._changed:
            if watch.state not in {NodeState.RUNNING, NodeState.PAUSED}:
                raise RaftActorsError(f"node {node_id} is {watch.state}, so it cannot be paused; restart it first")
            watch.process.pause()
            watch.state = NodeState.PAUSED

    def resume(self, node_id: int) -> None:
        """Let a paused node go on (SIGCONT)."""
        watch = self._find(node_id)
        with self._changed:
            watch.process.resume()
            if watch.state is NodeState.PAUSED:
                watch.state = NodeState.RUNNING

    def restart(self, node_id: int) -> None:
        """Start the node again, ending it in order first if it runs; returns when it serves.

        Raises the node's start error; it is then left dead.
        """
        watch = self._find(node_id)
        if watch.process.is_alive:
            self._set_down(watch, NodeState.STOPPED, "restarting on request")
            watch.process.terminate(self._end_timeout_ms)
        self._request_start((node_id,))

    def _find(self, node_id: int) -> _Watch:
        if node_id not in self._watches:
            raise ConfigError(f"node {node_id} does not exist; the cluster has {sorted(self._watches)}")
        return self._watches[node_id]

    def _set_down(self, watch: _Watch, state: NodeState, reason: str) -> None:
        with self._changed:
            self._refuse_if_closed()
            watch.state, watch.reason = state, reason
            watch.wanted = watch.awaited = watch.is_started = False

    def _request_start(self, node_ids: tuple[int, ...], *, damaged_max: int = 0) -> None:
        """Have the supervising thread start nodes, and wait until they serve or it is known that they will not."""
        watches = [self._find(node_id) for node_id in node_ids]
        with self._changed:
            self._refuse_if_closed()
            for watch in watches:
                watch.state, watch.reason, watch.error = NodeState.STARTING, "", None
                watch.wanted = watch.awaited = True
                watch.is_started = False
                watch.attempt = 0
                watch.due_s = time.monotonic()
            self._wake()
            self._changed.wait_for(lambda: _start_error(watches, damaged_max) or not any(w.awaited for w in watches))
            if (error := _start_error(watches, damaged_max)) is not None:
                raise error
            for watch in watches:
                if watch.state in {NodeState.STOPPED, NodeState.KILLED, NodeState.STARTING}:
                    raise RaftActorsError(f"node {watch.process.node_id} was {watch.state} while it started")

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise RaftActorsError("the cluster is stopped; start it again")

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    # --- the supervising thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._watch_over()
        finally:
            with self._changed:
                for watch in self._watches.values():
                    watch.awaited = False
                self._changed.notify_all()

    def _watch_over(self) -> None:
        while True:
            events = self._selector.select(self._until_due_s())
            with self._changed:
                if self._is_closing:
                    return
                changed = [self._take_event(key.fd, key.data) for key, _ in events]
                changed += [self._take_due(watch) for watch in self._watches.values()]
                self._changed.notify_all()
            if any(changed):
                try:
                    self._on_change()
                except OSError:
                    _log.exception("the state of the cluster could not be written down")

    def _until_due_s(self) -> float | None:
        with self._changed:
            due = [watch.due_s for watch in self._watches.values() if watch.due_s]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _take_event(self, fd: int, watch: _Watch | None) -> bool:
        if watch is None:
            os.eventfd_read(self._wake_fd)
            return False
        if fd not in watch.fds:
            return False
        if fd == watch.process.exit_fd:
            self._take_end(watch)
            return True
        was_ready = watch.process.is_ready
        if not watch.process.take_report():
            self._selector.unregister(fd)
            watch.fds.remove(fd)
        if watch.process.is_ready and not was_ready and watch.state is NodeState.STARTING:
            watch.state, watch.awaited, watch.due_s = NodeState.RUNNING, False, 0.0
            watch.served_since_s = time.monotonic()
            return True
        return False

    def _take_due(self, watch: _Watch) -> bool:
        """Start a node whose time has come, or end one that was given time enough to serve."""
        if not watch.due_s or time.monotonic() < watch.due_s:
            return False
        watch.due_s = 0.0
        if not watch.wanted:
            return False
        if watch.process.is_alive:
            watch.error = watch.process.silence_error(self._start_timeout_ms) if watch.awaited else None
            watch.process.kill()
            return True
        return self._start_process(watch)

    def _start_process(self, watch: _Watch) -> bool:
        self._forget(watch)
        try:
            watch.process.start()
        except OSError as error:
            reason = f"node {watch.process.node_id} could not be spawned: {error}"
            if watch.awaited:
                self._give_up(watch, reason, NodeStartError(reason))
            else:
                self._schedule(watch, reason)
            return True
        watch.state, watch.is_started = NodeState.STARTING, True
        watch.due_s = time.monotonic() + self._start_timeout_ms / 1000
        for fd in (watch.process.exit_fd, watch.process.report_fd):
            self._selector.register(fd, selectors.EVENT_READ, watch)
            watch.fds.append(fd)
        return True

    def _take_end(self, watch: _Watch) -> None:
        """A process has ended: decide whether it comes back."""
        watch.process.take_report()
        self._forget(watch)
        if not watch.wanted or not watch.is_started:
            return
        watch.due_s = 0.0
        reason = watch.process.exit_text()
        if watch.awaited:
            # Somebody waits for this start and is told by the error.
            self._give_up(watch, reason, watch.error or watch.process.start_error())
            return
        _log.warning("node %d died: %s", watch.process.node_id, reason)
        if watch.process.exit_code in _INCURABLE:
            self._give_up(watch, reason, None)
        else:
            self._schedule(watch, reason)

    def _schedule(self, watch: _Watch, reason: str) -> None:
        if watch.served_since_s and time.monotonic() - watch.served_since_s > self._back_off.stable_ms / 1000:
            watch.attempt = 0
        watch.served_since_s = 0.0
        watch.attempt += 1
        if watch.attempt > self._back_off.attempts_max:
            self._give_up(watch, f"given up after {self._back_off.attempts_max} starts in a row; {reason}", None)
            return
        watch.restarts += 1
        watch.state, watch.reason = NodeState.WAITING, reason
        watch.due_s = time.monotonic() + self._back_off.delay_ms(watch.attempt) / 1000

    def _give_up(self, watch: _Watch, reason: str, error: RaftActorsError | None) -> None:
        watch.state, watch.reason, watch.error = NodeState.FAILED, reason, error
        watch.wanted = watch.awaited = False

    def _forget(self, watch: _Watch) -> None:
        """Stop listening to a process, before its descriptors are closed."""
        for fd in watch.fds:
            self._selector.unregister(fd)
        watch.fds.clear()


def _start_error(watches: Sequence[_Watch], damaged_max: int) -> RaftActorsError | None:
    """What keeps these nodes from starting; None while nothing does."""
    errors = [watch.error for watch in watches if watch.error is not None]
    # Errors of another kind come first: they would keep the cluster from starting after a rebuild as well.
    errors.sort(key=lambda error: error.exit_code in _DAMAGED)
    damaged = sum(error.exit_code in _DAMAGED for error in errors)
    return errors[0] if len(errors) > damaged or damaged > damaged_max else None
