"""The one thread of a client: it owns the sockets, sleeps on them and on a wake-up, and drives the state machines."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import zmq

from raftactors.client.connection import SLOT_BITS, SessionEngine
from raftactors.client.descriptors import USED_UP, shortage
from raftactors.client.forks import Lineage, forked_error
from raftactors.client.node_requests import SLOT, NodeRequests
from raftactors.client.options import ClientOptions
from raftactors.client.reply import Reply
from raftactors.client.route import Route
from raftactors.client.running import running
from raftactors.codec import frames
from raftactors.codec.frames import FrameKind
from raftactors.codec.replies import decode_replies
from raftactors.errors import ConfigError, DescriptorsUsedUpError, RejectedError, WireError
from raftactors.transport.envelope import Envelope
from raftactors.transport.wakeup import Wakeup

log = logging.getLogger(__name__)

SLEEP_MS_MAX = 60_000
"""The longest sleep of a client that has nothing to do and no session to keep alive."""

_SLOT_MASK = (1 << SLOT_BITS) - 1


class Link(Protocol):
    """What the driver needs of a connection to one node."""

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """What to poll for input."""
        ...

    def send(self, kind: int, body: bytes) -> bool:
        """Send one frame; False if it does not leave now."""
        ...

    def receive(self) -> list[tuple[Envelope, memoryview]]:
        """The frames that have arrived."""
        ...

    def close(self) -> None:
        """Release the socket."""
        ...


def monotonic_ms() -> int:
    """The clock of a client: milliseconds, never running backwards."""
    return time.monotonic_ns() // 1_000_000


def _client_version() -> str:
    try:
        return version("raftactors")
    except PackageNotFoundError:
        return "unknown"


_VERSION = _client_version()  # Once: a client that is made later may find no descriptor to read it with.


class Driver:
    """Runs the engines of one client in one thread.

    Requests come in through deques; the thread is woken only while it sleeps, so a burst costs one wake-up, and all
    that has gathered meanwhile travels together. The thread does not keep the client: it ends when the client is
    closed, when it is collected and nothing is under way any more, and with the interpreter, after the last thread that
    is no daemon. In a forked child there is no such thread, and everything of it is left alone.
    """

    def __init__(
        self,
        *,
        route: Route,
        engines: Sequence[SessionEngine],
        options: ClientOptions,
        open_link: Callable[[str], Link],
        end: Callable[[], None],
    ) -> None:
        """Start the thread; `end` is called at its end. Raises DescriptorsUsedUpError."""
        self.inboxes: list[deque[Reply]] = [deque() for _ in engines]
        self._forks = Lineage.forks
        self._calls: deque[tuple[Callable[[], None], Reply]] = deque()
        self._route = route
        self._engines = list(engines)
        self._nodes = NodeRequests(route, SLOT_BITS, options.silence_ms)
        self._options = options
        self._open_link = open_link
        self._end = end
        self._links: dict[str, Link] = {}
        self._addresses: dict[zmq.Socket[bytes], str] = {}
        self._wakeup = _make_wakeup()
        self._poller = zmq.Poller()
        self._poller.register(self._wakeup.fileno(), zmq.POLLIN)
        self._asleep = False
        self._stopping = False
        self._exiting = False
        self._abandoned = False
        self.stopped = False
        self._why_stopped = "the client is closed"
        # The interpreter waits for threads that are no daemons before it tells anybody that it ends.
        self._thread = threading.Thread(target=self._run, name="raftactors-client", daemon=True)
        running.add(self)
        try:
            self._thread.start()
        except RuntimeError:
            running.discard(self)
            self._wakeup.close()
            raise

    # --- from any thread ---

    def submit(self, session: int, reply: Reply) -> None:
        """Hand a request to a session; its end comes through `reply`."""
        self.inboxes[session].append(reply)
        if self._asleep:
            self._asleep = False
            self._wakeup.signal()
        if self.stopped:  # The thread ended before it could see this one.
            self._refuse(reply)

    def ask_node(self, address: str, operation: str, arguments: list[object], reply: Reply) -> None:
        """Hand over a request for one node. Raises ForkedError."""
        self._call(lambda: self._nodes.ask(address, operation, arguments, reply), reply)

    def await_welcome(self, reply: Reply) -> None:
        """Complete `reply` when a first node has answered, at once if one has. Raises ForkedError."""
        self._call(lambda: self._nodes.await_welcome(reply), reply)

    def awaiting(self) -> int:
        """How many wait for the first answer of a node."""
        return self._nodes.awaiting()

    def check_fork(self) -> None:
        """Raise ForkedError in a forked child."""
        if self._forks != Lineage.forks:
            raise forked_error()

    def in_thread(self) -> bool:
        """Whether the caller is the driver's own thread."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """Begin to end every request, the sessions and the thread, without waiting."""
        if self._forks == Lineage.forks:
            self._stopping = True
            self._wakeup.signal()

    def exit(self) -> None:
        """Begin to end as `stop` does, but leave the requests that daemon threads wait for without an end."""
        self._exiting = True
        self.stop()

    def abandon(self) -> None:
        """Nobody can send requests any more: end when those under way have their ends."""
        if self._forks == Lineage.forks:
            self._abandoned = True
            self._wakeup.signal()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the end of the thread; returns at once in that thread itself, and in a forked child."""
        if self._forks == Lineage.forks and not self.in_thread():
            self._thread.join(timeout_s)

    def close(self) -> None:
        """End every request and the thread; sessions are closed in the cluster if it answers within `close_ms`."""
        self.stop()
        self.join()

    def _call(self, call: Callable[[], None], reply: Reply) -> None:
        self.check_fork()
        self._calls.append((call, reply))
        self._wakeup.signal()
        if self.stopped:
            self._refuse(reply)

    def _refuse(self, reply: Reply) -> None:
        # An error would only make a daemon thread print a traceback in the last moments of the program.
        if not (self._exiting and threading.current_thread().daemon):
            reply.fail(self._closed())

    # --- the thread ---

    def _run(self) -> None:
        try:
            while not (self._stopping or (self._abandoned and self._is_idle())):
                self._turn()
                if self._forks != Lineage.forks:
                    return  # A callback has forked, and this is the child.
            self._say_goodbye()
        except Exception as error:
            self._why_stopped = f"the client has failed ({type(error).__name__}: {error}); make a new one"
            log.exception("the client's thread failed; its requests end with an error")
        finally:
            if self._forks == Lineage.forks:
                self._release()

    def _release(self) -> None:
        self.stopped = True
        for inbox in self.inboxes:
            while inbox:
                self._refuse(inbox.popleft())
        while self._calls:
            self._refuse(self._calls.popleft()[1])
        self._end_requests()
        for link in self._links.values():
            link.close()
        self._wakeup.close()
        self._end()
        running.discard(self)

    def _is_idle(self) -> bool:
        has_new = bool(self._calls) or any(self.inboxes)
        return not (has_new or self._nodes.has_requests() or any(engine.has_requests() for engine in self._engines))

    def _turn(self, until_ms: int | None = None) -> None:
        self._drain()
        now_ms = monotonic_ms()
        self._send(now_ms)
        wake_at_ms = self._next_wakeup_ms(now_ms + SLEEP_MS_MAX if until_ms is None else until_ms)
        self._asleep = True
        # Looked at again after the flag is up: a request that came before it did not signal.
        timeout_ms = 0 if self._calls or any(self.inboxes) else max(wake_at_ms - now_ms, 0)
        ready: list[tuple[Any, int]] = self._poller.poll(timeout_ms)
        self._asleep = False
        if ready:
            now_ms = monotonic_ms()
            for source, _ in ready:
                if self._forks != Lineage.forks:
                    return
                address = self._addresses.get(source)
                if address is None:
                    self._wakeup.clear()
                else:
                    self._receive(address, now_ms)

    def _drain(self) -> None:
        for inbox, engine in zip(self.inboxes, self._engines, strict=True):
            while inbox:
                engine.submit(inbox.popleft())
        while self._calls:
            self._calls[0][0]()
            self._calls.popleft()

    def _send(self, now_ms: int) -> None:
        for engine in self._engines:
            outgoing = engine.poll(now_ms)
            if outgoing:
                endpoint = self._route.ready
                link = self._find_link(endpoint.address) if endpoint is not None else None
                for kind, body in outgoing:
                    if link is None or not link.send(kind, body):
                        engine.unsent(now_ms)
                        break
        for address, request, body in self._nodes.poll(now_ms):
            link = self._find_link(address)
            if link is None or not link.send(FrameKind.ADMIN, body):
                self._nodes.unsent(request, now_ms)
        for address in self._route.poll(now_ms):
            hello = frames.encode_hello(self._nodes.number(), _VERSION)
            try:
                link = self._find_link(address)
                if link is None or not link.send(FrameKind.HELLO, hello):
                    self._route.unsent(address, now_ms)
                    self._route.trouble = shortage(1)
            except ConfigError as error:
                self._route.unusable(address, str(error))

    def _next_wakeup_ms(self, wake_at_ms: int) -> int:
        for engine in self._engines:
            wake_at_ms = min(wake_at_ms, engine.next_wakeup_ms())
        for other in (self._nodes.next_wakeup_ms(), self._route.next_wakeup_ms()):
            if other is not None and other < wake_at_ms:
                wake_at_ms = other
        return wake_at_ms

    def _receive(self, address: str, now_ms: int) -> None:
        for envelope, body in self._links[address].receive():
            try:
                if envelope.kind == FrameKind.REPLIES:
                    for request, reply_body in decode_replies(body):
                        slot = request & _SLOT_MASK
                        if slot == SLOT:
                            self._nodes.receive(request, reply_body, now_ms)
                        elif slot <= len(self._engines):
                            self._engines[slot - 1].receive(request, reply_body, now_ms)
                elif envelope.kind == FrameKind.WELCOME:
                    self._route.welcome(address, frames.decode_welcome(body), envelope.incarnation, now_ms)
            except WireError as error:
                log.warning("the node at %s sent a frame that is dropped: %s", address, error)

    def _find_link(self, address: str) -> Link | None:
        """The connection to a node, made when it is used first; None while the process has no descriptor for it."""
        link = self._links.get(address)
        if link is None:
            try:
                link = self._links[address] = self._open_link(address)
            except zmq.ZMQError as error:
                if error.errno not in USED_UP:
                    raise
                return None
            self._addresses[link.socket] = address
            self._poller.register(link.socket, zmq.POLLIN)
        return link

    def _say_goodbye(self) -> None:
        """Close the sessions in the cluster, so that they do not have to expire; not at any price."""
        self._drain()
        self._end_requests()
        deadline_ms = monotonic_ms() + self._options.close_ms
        while not all(engine.closed() for engine in self._engines) and monotonic_ms() < deadline_ms:
            self._turn(deadline_ms)

    def _end_requests(self) -> None:
        error = None if self._exiting else self._closed()
        for engine in self._engines:
            engine.close(error)
        self._nodes.close(error)

    def _closed(self) -> RejectedError:
        return RejectedError(f"{self._why_stopped}: the request was not sent and never happened")


def _make_wakeup() -> Wakeup:
    try:
        return Wakeup()
    except OSError as error:
        if error.errno not in USED_UP:
            raise
        raise DescriptorsUsedUpError(f"a client cannot be made: {shortage(1) or error}") from error
