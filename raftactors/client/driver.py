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
from raftactors.client.node_requests import SLOT, NodeRequests
from raftactors.client.options import ClientOptions
from raftactors.client.reply import Reply
from raftactors.client.route import Route
from raftactors.codec import frames
from raftactors.codec.frames import FrameKind
from raftactors.codec.replies import decode_replies
from raftactors.errors import ConfigError, RejectedError, WireError
from raftactors.transport.envelope import Envelope
from raftactors.transport.wakeup import Wakeup

log = logging.getLogger(__name__)

SLEEP_MS_MAX = 500
"""The longest sleep: a client that was never closed must notice that the program has ended."""

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


class Driver:
    """Runs the engines of one client in one thread.

    Requests come in through deques; the thread is woken only while it sleeps, so a burst costs one wake-up, and all
    that has gathered meanwhile travels together.
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
        self.inboxes: list[deque[Reply]] = [deque() for _ in engines]
        self._calls: deque[Callable[[], None]] = deque()
        self._route = route
        self._engines = list(engines)
        self._nodes = NodeRequests(route, SLOT_BITS, options.silence_ms)
        self._options = options
        self._open_link = open_link
        self._end = end
        self._links: dict[str, Link] = {}
        self._addresses: dict[zmq.Socket[bytes], str] = {}
        self._wakeup = Wakeup()
        self._poller = zmq.Poller()
        self._poller.register(self._wakeup.fileno(), zmq.POLLIN)
        self._asleep = False
        self._stopping = False
        self.stopped = False
        self._hello_version = _client_version()
        self._thread = threading.Thread(target=self._run, name="raftactors-client")
        self._thread.start()

    # --- from any thread ---

    def submit(self, session: int, reply: Reply) -> None:
        """Hand a request to a session; its end comes through `reply`."""
        self.inboxes[session].append(reply)
        if self._asleep:
            self._asleep = False
            self._wakeup.signal()
        if self.stopped:  # The thread ended before it could see this one.
            reply.fail(_closed())

    def ask_node(self, address: str, operation: str, arguments: list[object], reply: Reply) -> None:
        """Hand over a request for one node."""
        self._calls.append(lambda: self._nodes.ask(address, operation, arguments, reply))
        self._wakeup.signal()
        if self.stopped:
            reply.fail(_closed())

    def in_thread(self) -> bool:
        """Whether the caller is the driver's own thread."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """End every request and the thread; sessions are closed in the cluster if it answers within `close_ms`."""
        self._stopping = True
        self._wakeup.signal()
        if not self.in_thread():
            self._thread.join()

    # --- the thread ---

    def _run(self) -> None:
        try:
            while not self._stopping and threading.main_thread().is_alive():
                self._turn()
            self._say_goodbye()
        except Exception:
            log.exception("the client's thread failed; its requests end with an error")
        finally:
            self.stopped = True
            self._drain()
            for engine in self._engines:
                engine.close(_closed())
            self._nodes.close(_closed())
            for link in self._links.values():
                link.close()
            self._wakeup.close()
            self._end()

    def _turn(self) -> None:
        self._drain()
        now_ms = monotonic_ms()
        self._send(now_ms)
        wake_at_ms = self._next_wakeup_ms(now_ms)
        self._asleep = True
        # Looked at again after the flag is up: a request that came before it did not signal.
        timeout_ms = 0 if self._calls or any(self.inboxes) else min(max(wake_at_ms - now_ms, 0), SLEEP_MS_MAX)
        ready: list[tuple[Any, int]] = self._poller.poll(timeout_ms)
        self._asleep = False
        if ready:
            now_ms = monotonic_ms()
            for source, _ in ready:
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
            self._calls.popleft()()

    def _send(self, now_ms: int) -> None:
        for engine in self._engines:
            outgoing = engine.poll(now_ms)
            if outgoing:
                endpoint = self._route.ready
                link = self._link(endpoint.address) if endpoint is not None else None
                for kind, body in outgoing:
                    if link is None or not link.send(kind, body):
                        engine.unsent(now_ms)
                        break
        for address, request, body in self._nodes.poll(now_ms):
            if not self._link(address).send(FrameKind.ADMIN, body):
                self._nodes.unsent(request, now_ms)
        for address in self._route.poll(now_ms):
            hello = frames.encode_hello(self._nodes.number(), self._hello_version)
            try:
                if not self._link(address).send(FrameKind.HELLO, hello):
                    self._route.unsent(address, now_ms)
            except ConfigError as error:
                self._route.unusable(address, str(error))

    def _next_wakeup_ms(self, now_ms: int) -> int:
        wake_at_ms = now_ms + SLEEP_MS_MAX
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

    def _link(self, address: str) -> Link:
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = self._open_link(address)
            self._addresses[link.socket] = address
            self._poller.register(link.socket, zmq.POLLIN)
        return link

    def _say_goodbye(self) -> None:
        """Close the sessions in the cluster, so that they do not have to expire; not at any price."""
        self._drain()
        for engine in self._engines:
            engine.close(_closed())
        self._nodes.close(_closed())
        deadline_ms = monotonic_ms() + self._options.close_ms
        while not all(engine.closed() for engine in self._engines) and monotonic_ms() < deadline_ms:
            self._turn()


def _closed() -> RejectedError:
    return RejectedError("the client is closed: the request was not sent and never happened")
