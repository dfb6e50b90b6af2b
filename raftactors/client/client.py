"""The synchronous face of a cluster: calls, futures, queries, proxies, operators' requests."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import zmq

from raftactors.app.application import Application
from raftactors.app.kv import KeyValue
from raftactors.client.connection import SessionEngine
from raftactors.client.driver import Driver, Link, monotonic_ms
from raftactors.client.options import SESSIONS_MAX, ClientOptions
from raftactors.client.outcomes import too_large
from raftactors.client.proxy import BlockingProxy, Proxy
from raftactors.client.reply import Reply
from raftactors.client.route import Route
from raftactors.codec.frames import Level
from raftactors.codec.msgpack import pack
from raftactors.config import Limits
from raftactors.errors import ArgumentsError, ConfigError, OverloadedError, RequestError
from raftactors.transport.client_endpoint import ClientSocket

LEVELS = {level.name.lower(): int(level) for level in Level}
"""How fresh an answer must be: "linearizable" sees every command that was answered before the query was sent."""

OVERLOADED_RETRY_MS = 20
"""What a caller is told to wait when its own client holds too many requests."""


class Client:
    """Talks to a cluster from any number of threads; commands are executed exactly once, in the order of a thread.

    `addresses` are client addresses of some nodes, the others are learned. `cluster_id` None takes the cluster that
    answers first. Commands travel in `sessions` independent streams; a thread stays with one. One thread of the client
    does all input and output; close the client, or use it in a `with` statement. A client does not survive a fork.

    `context` shares a ZeroMQ context among many clients; without it the client has one of its own. `limits` needs to be
    given only if the nodes allow larger frames than the defaults.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        cluster_id: int | None = None,
        timeout_ms: int = 10_000,
        sessions: int = 1,
        options: ClientOptions | None = None,
        limits: Limits | None = None,
        context: zmq.Context[Any] | None = None,
        random_source: random.Random | None = None,
    ) -> None:
        """Start connecting, and return at once. Raises ConfigError for values out of range."""
        if type(sessions) is not int or not 1 <= sessions <= SESSIONS_MAX:
            raise ConfigError(f"sessions is {sessions!r}; it must be a whole number from 1 to {SESSIONS_MAX}")
        options = options or ClientOptions(timeout_ms=timeout_ms)
        limits = limits or Limits()
        source = random_source or random.Random()
        self._options = options
        self._route = Route(
            addresses,
            options=options,
            random_source=source,
            cluster_id=cluster_id,
            frame_bytes_max=limits.client_frame_bytes_max,
        )
        self._sessions = sessions
        self._next_session = itertools.count()
        self._thread_session = threading.local()
        self._engines = [
            SessionEngine(slot=slot, route=self._route, options=options, random_source=source)
            for slot in range(1, sessions + 1)
        ]
        own_context: zmq.Context[Any] | None = zmq.Context() if context is None else None
        shared = context if context is not None else own_context
        assert shared is not None

        def open_link(address: str) -> Link:
            return ClientSocket(address, context=shared, limits=limits)

        def end() -> None:
            if own_context is not None:
                own_context.term()

        self._driver = Driver(route=self._route, engines=self._engines, options=options, open_link=open_link, end=end)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- commands and queries ---

    def submit(self, method: str, *args: object, **kwargs: object) -> Reply:
        """Send a command and return its future.

        Raises ArgumentsError for values that no message can carry, CommandTooLargeError for a command that no node
        would take, and OverloadedError when the session holds `pending_requests_max` requests; it was not sent then.
        """
        return self.submit_packed(pack((method, args, kwargs)))

    def submit_query(
        self, method: str, *args: object, level: str = "linearizable", timeout_ms: int | None = None, **kwargs: object
    ) -> Reply:
        """Send a query and return its future; it may be asked more than once, which changes nothing."""
        code = LEVELS.get(level)
        if code is None:
            raise ArgumentsError(f"level is {level!r}; choose {' or '.join(sorted(LEVELS))}")
        return self.submit_packed(pack((method, args, kwargs)), level=code, timeout_ms=timeout_ms)

    def call(self, method: str, *args: object, timeout_ms: int | None = None, **kwargs: object) -> Any:
        """Send a command, wait, and return its result. Raises a RequestError (see `raftactors.errors`)."""
        return self._wait(self.submit_packed(pack((method, args, kwargs)), timeout_ms=timeout_ms))

    def query(
        self, method: str, *args: object, level: str = "linearizable", timeout_ms: int | None = None, **kwargs: object
    ) -> Any:
        """Send a query, wait, and return its result. Raises a RequestError (see `raftactors.errors`)."""
        return self._wait(self.submit_query(method, *args, level=level, timeout_ms=timeout_ms, **kwargs))

    def submit_packed(
        self,
        packed: bytes,
        *,
        level: int = 0,
        timeout_ms: int | None = None,
        session: int | None = None,
        on_done: Callable[[Reply], None] | None = None,
    ) -> Reply:
        """The entry below the others, for programs that count microseconds: a call that is packed already.

        `packed` is msgpack [method, [args], {kwargs}]; `level` 0 is a command, otherwise one of `LEVELS`; `session`
        names a stream from 0, by default the thread's own. `on_done(reply)` is called in the client's thread, must be
        short and must not wait; it may submit. Raises as `submit`.
        """
        limits = self._route.limits
        if limits is not None and len(packed) > limits.command_bytes_max:
            raise too_large(len(packed), limits.command_bytes_max)
        if session is None:
            session = self._own_session()
        if len(self._driver.inboxes[session]) + self._engines[session].pending() >= self._options.pending_requests_max:
            raise OverloadedError(
                f"session {session} holds {self._options.pending_requests_max} requests (pending_requests_max); wait "
                "for some of them first; this one was not sent",
                retry_after_ms=OVERLOADED_RETRY_MS,
                leader_id=self._route.leader_id,
            )
        deadline_ms = monotonic_ms() + (self._options.timeout_ms if timeout_ms is None else timeout_ms)
        reply = Reply(packed, deadline_ms, level=level, on_done=on_done)
        self._driver.submit(session, reply)
        return reply

    def proxy(self, application: type[Application]) -> Proxy:
        """The application as an object whose methods return futures."""
        return Proxy(application, self._send_call)

    @property
    def kv(self) -> BlockingProxy:
        """The key-value battery, each method waiting for its result: `client.kv.put("key", b"value")`."""
        return BlockingProxy(self.proxy(KeyValue))

    # --- operators ---

    @property
    def leader_id(self) -> int:
        """The leader as far as the nodes have told, 0 while nobody has."""
        return self._route.leader_id

    @property
    def cluster_id(self) -> int:
        """The cluster asked for, or the one that answered; 0 while neither."""
        return self._route.cluster_id

    @property
    def application(self) -> str:
        """What the nodes run, as `MODULE:CLASS`; empty while no node has answered."""
        return self._route.application

    @property
    def node_addresses(self) -> dict[int, str]:
        """Where each node is reached, by its id, as far as the nodes have told."""
        return self._route.node_addresses()

    def admin(self, operation: str, *args: object, node: int | None = None, timeout_ms: int | None = None) -> Any:
        """Ask one node (by default the one that serves this client, the leader if there is one) for an operation.

        Raises RejectedError with the node's reason, and ConfigError for a node id that no node has told of.
        """
        address = ""
        if node is not None:
            known = self._route.address_of(node)
            if known is None:
                raise ConfigError(f"node {node} is not known; known are {self._route.describe()}")
            address = known
        return self._wait(self._ask(address, operation, args, timeout_ms))

    def status(self, *, timeout_ms: int = 2_000) -> dict[int, dict[str, Any]]:
        """The status document of every node by its id; a node that does not answer has only `error`, a text.

        Raises ClusterUnreachableError when no node answers.
        """
        replies: dict[str, Reply] = {}
        while True:
            # Once more after a round: the first node that answers tells of the others.
            fresh = [address for address in self._route.addresses() if address not in replies]
            if not fresh:
                break
            for address in fresh:
                replies[address] = self._ask(address, "status", (), timeout_ms)
            for address in fresh:
                replies[address].wait()
        documents: dict[int, dict[str, Any]] = {}
        failure: RequestError | None = None
        for address, reply in replies.items():
            error = reply.error()
            if error is None:
                document = reply.get()
                documents[self._route.node_id_of(address)] = (
                    document if type(document) is dict else {"status": document}
                )
            else:
                failure = error
                documents.setdefault(self._route.node_id_of(address), {"error": str(error)})
        documents.pop(0, None)  # An address that is nobody's, as far as the nodes know.
        if failure is not None and all("error" in document for document in documents.values()):
            raise failure
        return documents

    def close(self) -> None:
        """End every request with an error, close the sessions in the cluster, and release thread and sockets."""
        self._driver.close()

    # --- inside ---

    def _send_call(self, packed: bytes, kind: str) -> Reply:
        return self.submit_packed(packed, level=Level.LINEARIZABLE if kind == "query" else 0)

    def _ask(self, address: str, operation: str, args: Sequence[object], timeout_ms: int | None) -> Reply:
        deadline_ms = monotonic_ms() + (self._options.timeout_ms if timeout_ms is None else timeout_ms)
        reply = Reply(b"", deadline_ms)
        self._driver.ask_node(address, operation, list(args), reply)
        return reply

    def _wait(self, reply: Reply) -> Any:
        if self._driver.in_thread():
            raise RuntimeError("a done-callback cannot wait: it runs in the thread that brings the results; use submit")
        return reply.get()

    def _own_session(self) -> int:
        if self._sessions == 1:
            return 0
        session: int | None = getattr(self._thread_session, "number", None)
        if session is None:
            session = self._thread_session.number = next(self._next_session) % self._sessions
        return session
