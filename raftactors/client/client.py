"""The synchronous face of a cluster: calls, futures, queries, proxies, operators' requests."""

from __future__ import annotations

import itertools
import random
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn

import zmq

from raftactors.app.application import Application
from raftactors.app.kv import KeyValue
from raftactors.client.connection import SessionEngine
from raftactors.client.driver import Driver, Link, monotonic_ms
from raftactors.client.options import SESSIONS_MAX, ClientOptions, timeout_problem
from raftactors.client.outcomes import too_large
from raftactors.client.proxy import BlockingProxy, Proxy
from raftactors.client.reply import Reply
from raftactors.client.route import Route
from raftactors.client.shared_context import check_descriptors, shared_context
from raftactors.client.view import ClientView
from raftactors.codec.frames import REQUEST_OPTIONS, Level
from raftactors.codec.msgpack import pack
from raftactors.config import Limits
from raftactors.errors import ArgumentsError, ConfigError, OverloadedError, RequestError
from raftactors.transport.client_endpoint import ClientSocket

LEVELS = {level.name.lower(): int(level) for level in Level}
"""How fresh an answer must be: "linearizable" sees every command that was answered before the query was sent."""

WELCOME_MS_MIN = 250
"""How long a call waits at least for the first answer of a node that decides what a name means."""

OVERLOADED_RETRY_MS = 20
"""What a caller is told to wait when its own client holds too many requests."""


class Client:
    """Talks to a cluster from any number of threads; commands are executed exactly once, in the order of a thread.

    `addresses` are client addresses of some nodes, the others are learned. `cluster_id` None takes the cluster that
    answers first. Commands travel in `sessions` independent streams; a thread stays with one. One thread of the client
    does all input and output; close the client, or use it in a `with` statement. One that is dropped ends when its last
    request has its end, and what is left is ended with the interpreter, after its last thread that is no daemon. In a
    forked child every request raises ForkedError, and `close` does nothing; make a new client there.

    `context` is a ZeroMQ context of yours that the client is to use; without it all clients of the process share one.
    `limits` needs to be given only if the nodes allow larger frames than the defaults.

    What `call`, `query` and `submit_query` are given by name is an argument of the method if the method has one of that
    name, and otherwise, if it is called `timeout_ms` or (for queries) `level`, an option of the request. `submit` has
    no options. `with_options` is the door that leaves every name to the method.
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
        """Start connecting, and return at once.

        Raises ConfigError for values out of range, and DescriptorsUsedUpError if the process may open no more files.
        """
        if type(sessions) is not int or not 1 <= sessions <= SESSIONS_MAX:
            raise ConfigError(f"sessions is {sessions!r}; it must be a whole number from 1 to {SESSIONS_MAX}")
        options = options or ClientOptions(timeout_ms=timeout_ms)
        limits = limits or Limits()
        source = random_source or random.Random()
        self._options = options
        self._timeout_ms = options.timeout_ms
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
        self._driver = self._start(context, limits)
        # The thread knows the driver and not the client, so a client that nobody has any more is collected.
        self._finalizer = weakref.finalize(self, self._driver.abandon)
        self._finalizer.atexit = False

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client holds a thread and connections and cannot be copied or sent; make a new one there")

    # --- commands and queries ---

    def submit(self, method: str, /, *args: object, **kwargs: object) -> Reply:
        """Send a command and return its future.

        Raises ArgumentsError for values that no message can carry, CommandTooLargeError for a command that no node
        would take, OverloadedError when the session holds `pending_requests_max` requests, and ForkedError in a forked
        child; it was not sent then.
        """
        return self.submit_packed(pack((method, args, kwargs)))

    def submit_query(self, method: str, /, *args: object, **kwargs: object) -> Reply:
        """Send a query and return its future; it may be asked more than once, which changes nothing.

        Options: `level`, how fresh the answer must be (one of `LEVELS`), and `timeout_ms`, from 1 to 2**31.
        """
        if REQUEST_OPTIONS.isdisjoint(kwargs):
            return self.submit_packed(pack((method, args, kwargs)), level=Level.LINEARIZABLE)
        return self._submit_named(method, args, kwargs, REQUEST_OPTIONS, Level.LINEARIZABLE)

    def call(self, method: str, /, *args: object, **kwargs: object) -> Any:
        """Send a command, wait, and return its result. Raises a RequestError (see `raftactors.errors`).

        Option: `timeout_ms`, from 1 to 2**31, by default that of the client.
        """
        if "timeout_ms" not in kwargs:
            return self._wait(self.submit_packed(pack((method, args, kwargs))))
        return self._wait(self._submit_named(method, args, kwargs, _COMMAND_OPTIONS, 0))

    def query(self, method: str, /, *args: object, **kwargs: object) -> Any:
        """Send a query, wait, and return its result. Raises a RequestError (see `raftactors.errors`).

        Options as for `submit_query`.
        """
        return self._wait(self.submit_query(method, *args, **kwargs))

    def with_options(self, *, timeout_ms: int | None = None, level: str = "linearizable") -> ClientView:
        """This client with options for each request, so that every name given to a call is the method's.

        Raises ArgumentsError for values out of range. The client stays open as long as the view is in use.
        """
        _check_timeout(timeout_ms)
        return ClientView(self.submit_packed, self._wait, timeout_ms=timeout_ms, level=_level(level))

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
        if session is None:
            session = self._own_session()
        self._admit(len(packed), session)
        # The default was checked once and for all.
        deadline_ms = monotonic_ms() + self._timeout_ms if timeout_ms is None else self._deadline_ms(timeout_ms)
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

        Raises RejectedError with the node's reason, and ConfigError, which tells the ids there are, for a node id that
        is none of the cluster's; while no node has answered yet, the first answer is waited for.
        """
        deadline_ms = self._deadline_ms(timeout_ms)
        address = "" if node is None else self._address_of(node, deadline_ms)
        return self._wait(self._ask(address, operation, args, deadline_ms))

    def status(self, *, timeout_ms: int = 2_000) -> dict[int, dict[str, Any]]:
        """The status document of every node by its id; a node that does not answer has only `error`, a text.

        Each is waited for `timeout_ms` at most. Raises ClusterUnreachableError when no node answers.
        """
        _check_timeout(timeout_ms)
        replies: dict[str, Reply] = {}
        while True:
            # Once more after a round: the first node that answers tells of the others.
            fresh = [address for address in self._route.addresses() if address not in replies]
            if not fresh:
                break
            for address in fresh:
                replies[address] = self._ask(address, "status", (), self._deadline_ms(timeout_ms))
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
        """End every request with an error, close the sessions in the cluster, and release thread and sockets.

        May be called twice, from any thread, and in a forked child, where it does nothing.
        """
        self._finalizer.detach()
        self._driver.close()

    # --- inside ---

    def _send_call(self, packed: bytes, kind: str) -> Reply:
        return self.submit_packed(packed, level=Level.LINEARIZABLE if kind == "query" else 0)

    def _start(self, context: zmq.Context[Any] | None, limits: Limits) -> Driver:
        if context is None:
            used = shared_context.acquire()
        else:
            check_descriptors()
            used = context

        def open_link(address: str) -> Link:
            return ClientSocket(address, context=used, limits=limits)

        def end() -> None:
            if context is None:
                shared_context.release()

        try:
            return Driver(route=self._route, engines=self._engines, options=self._options, open_link=open_link, end=end)
        except BaseException:
            end()
            raise

    def _admit(self, size: int, session: int) -> None:
        driver, limits = self._driver, self._route.limits
        driver.check_fork()
        if limits is not None and size > limits.command_bytes_max:
            raise too_large(size, limits.command_bytes_max)
        if len(driver.inboxes[session]) + self._engines[session].pending() >= self._options.pending_requests_max:
            raise self._overloaded(f"session {session} holds")

    def _overloaded(self, who: str) -> OverloadedError:
        return OverloadedError(
            f"{who} {self._options.pending_requests_max} requests (pending_requests_max); wait for some of them first; "
            "this one was not sent",
            retry_after_ms=OVERLOADED_RETRY_MS,
            leader_id=self._route.leader_id,
        )

    def _submit_named(
        self, method: str, args: Sequence[object], kwargs: Mapping[str, object], options: frozenset[str], level: int
    ) -> Reply:
        """Send a request some names of which may be options, as soon as a node has told which are."""
        started_ms, session = monotonic_ms(), self._own_session()
        reply = Reply(b"", 0, level=level)

        def decide() -> None:
            taken = self._route.option_arguments
            given = {name: kwargs[name] for name in options if name in kwargs and (method, name) not in taken}
            timeout_ms: Any = given.get("timeout_ms")
            _check_timeout(timeout_ms)
            if "level" in given:
                reply.level = _level(given["level"])
            reply.packed = pack((method, args, {name: kwargs[name] for name in kwargs if name not in given}))
            reply.deadline_ms = started_ms + (self._options.timeout_ms if timeout_ms is None else timeout_ms)
            self._admit(len(reply.packed), session)
            self._driver.submit(session, reply)

        if self._route.welcomed:
            decide()
            return reply

        def on_welcome(welcome: Reply) -> None:
            try:
                error = welcome.error()
                if error is not None:
                    raise error
                decide()
            except RequestError as error:
                reply.fail(error)

        if self._driver.awaiting() >= self._options.pending_requests_max:
            raise self._overloaded("the client holds")
        # Whatever the name means, nobody wants to wait longer than that for a cluster that does not answer.
        limit: Any = kwargs.get("timeout_ms")
        wait_ms = self._options.timeout_ms if limit is None or timeout_problem(limit) else max(limit, WELCOME_MS_MIN)
        self._await_welcome(started_ms + wait_ms).add_done_callback(on_welcome)
        return reply

    def _await_welcome(self, deadline_ms: int) -> Reply:
        reply = Reply(b"", deadline_ms)
        self._driver.await_welcome(reply)
        return reply

    def _address_of(self, node: int, deadline_ms: int) -> str:
        if not self._route.welcomed:
            self._wait(self._await_welcome(deadline_ms))
        address = self._route.address_of(node) if type(node) is int else None
        if address is None:
            known = ", ".join(map(str, self._route.node_ids()))
            raise ConfigError(f"node {node!r:.100} is none of this cluster's; its nodes are {known}")
        return address

    def _deadline_ms(self, timeout_ms: int | None) -> int:
        _check_timeout(timeout_ms)
        return monotonic_ms() + (self._timeout_ms if timeout_ms is None else timeout_ms)

    def _ask(self, address: str, operation: str, args: Sequence[object], deadline_ms: int) -> Reply:
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


_COMMAND_OPTIONS = frozenset({"timeout_ms"})


def _check_timeout(timeout_ms: int | None) -> None:
    problem = "" if timeout_ms is None else timeout_problem(timeout_ms)
    if problem:
        raise ArgumentsError(problem)


def _level(level: object) -> int:
    code = LEVELS.get(level) if isinstance(level, str) else None
    if code is None:
        raise ArgumentsError(f"level is {level!r:.100}; choose {' or '.join(sorted(LEVELS))}")
    return code
