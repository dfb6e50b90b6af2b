"""Requests to one node itself: status, leadership transfer. No session, no log, no I/O, no clock."""

from __future__ import annotations

from raftactors.client.reply import Reply
from raftactors.client.route import Endpoint, Route
from raftactors.codec import frames, replies
from raftactors.errors import (
    ClusterUnreachableError,
    CommandTooLargeError,
    ConfigError,
    RejectedError,
    RequestError,
    UnknownOutcomeError,
    WireError,
)

SLOT = 0
"""The slot of these requests in a request number; sessions have the others."""

RETRY_MS = 20
"""A node that is busy or knows no leader is asked again after this long."""


PATIENCE_PARTS = 3
"""A node that owes an answer for this part of the request's time is greeted anew: it may have been restarted."""


class _Asked:
    __slots__ = (
        "address",
        "asked",
        "at_ms",
        "body",
        "incarnation",
        "is_open",
        "patience_ms",
        "reply",
        "request",
        "sent",
        "silent",
    )

    def __init__(self, request: int, address: str, body: bytes, reply: Reply) -> None:
        self.request = request
        self.address = address
        self.body = body
        self.reply = reply
        self.sent = False  # ever
        self.silent: tuple[Endpoint, int] | None = None  # who owed an answer for too long, and its incarnation
        self.is_open = False  # another node, or an earlier incarnation, was asked and did not answer
        self.patience_ms = 0  # how long an answer is waited for, 0 while nothing was sent
        self.asked: Endpoint | None = None  # who owes an answer now
        self.incarnation = 0  # of who owes it
        self.at_ms = 0  # when to send (0: as soon as the node is greeted), or when the answer is overdue


class NodeRequests:
    """Asks a named node, or the one that the sessions use, and asks again while it is busy or silent.

    Every operation may be done twice without harm. A node that is silent may have been restarted: then it is listened
    to only after a new WELCOME, so it is greeted before it is asked again.
    """

    def __init__(self, route: Route, slot_bits: int, silence_ms: int) -> None:
        self._route = route
        self._silence_ms = silence_ms
        self._slot_bits = slot_bits
        self._requests = 0
        self._asked: dict[int, _Asked] = {}
        self._awaiting: list[Reply] = []

    def number(self) -> int:
        """The next request number."""
        self._requests += 1
        return self._requests << self._slot_bits | SLOT

    def ask(self, address: str, operation: str, arguments: list[object], reply: Reply) -> None:
        """Take a request for the node at `address`, or for the sessions' node if that is empty."""
        if address:
            try:
                self._route.want(address)
            except ConfigError as error:
                reply.fail(RejectedError(str(error)))
                return
        request = self.number()
        body = frames.encode_admin(request, operation, arguments)
        self._asked[request] = _Asked(request, address, body, reply)

    def await_welcome(self, reply: Reply) -> None:
        """Complete `reply` with None when a first node has answered its greeting."""
        self._awaiting.append(reply)

    def awaiting(self) -> int:
        """How many wait for that; may be asked from any thread."""
        return len(self._awaiting)

    def has_requests(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._asked or self._awaiting)

    def poll(self, now_ms: int) -> list[tuple[str, int, bytes]]:
        """What to send now: address, request number and body each. Ends what is overdue."""
        if self._awaiting:
            self._awaiting = [reply for reply in self._awaiting if not self._end_awaiting(reply, now_ms)]
        for asked in [asked for asked in self._asked.values() if asked.reply.deadline_ms <= now_ms]:
            if asked.asked is not None:
                self._route.lost(asked.asked, now_ms)  # The next request greets it before it asks.
            self._end(asked, self._overdue(asked))
        out = []
        ready = self._route.ready
        for asked in self._asked.values():
            is_restarted = asked.asked is not None and asked.asked.incarnation != asked.incarnation
            if now_ms < asked.at_ms and not is_restarted:
                continue
            if asked.asked is not None:
                asked.silent = asked.asked, asked.incarnation
                if not is_restarted:
                    self._route.lost(asked.asked, now_ms)
                asked.asked, asked.at_ms = None, 0
            endpoint = self._route.want(asked.address) if asked.address else ready
            if endpoint is not None and endpoint.welcomed:
                if not asked.patience_ms:
                    part_ms = (asked.reply.deadline_ms - now_ms) // PATIENCE_PARTS
                    asked.patience_ms = min(self._silence_ms, max(RETRY_MS, part_ms))
                asked.asked, asked.at_ms = endpoint, now_ms + asked.patience_ms
                asked.incarnation, asked.sent = endpoint.incarnation, True
                asked.is_open |= asked.silent not in (None, (endpoint, endpoint.incarnation))
                out.append((endpoint.address, asked.request, asked.body))
        return out

    def unsent(self, request: int, now_ms: int) -> None:
        """The request did not leave, mostly because the connection is gone: greet again, and ask then."""
        asked = self._asked.get(request)
        if asked is not None and asked.asked is not None:
            self._route.lost(asked.asked, now_ms)
            asked.sent, asked.asked, asked.at_ms = asked.silent is not None, None, now_ms + RETRY_MS

    def receive(self, request: int, body: bytes | memoryview, now_ms: int) -> None:
        """Take one reply body."""
        asked = self._asked.get(request)
        if asked is None:
            return
        if asked.asked is not None:
            self._route.answered(asked.asked)
        try:
            reply = replies.decode_reply(body)
        except WireError as error:
            self._end(asked, UnknownOutcomeError(f"the node's answer cannot be read: {error}"))
            return
        if isinstance(reply, replies.DocumentReply):
            self._forget(asked)
            asked.reply.complete_document(reply.document)
        elif isinstance(reply, replies.BusyReply | replies.RetryReply):
            asked.asked, asked.at_ms = None, now_ms + RETRY_MS
        elif isinstance(reply, replies.TooLargeReply):
            self._end(asked, CommandTooLargeError(reply.text, leader_id=reply.leader_id))
        elif isinstance(reply, replies.RejectedReply) and asked.is_open:
            text = f"{reply.text}; but an earlier attempt had no answer, and may have done what was asked"
            self._end(asked, UnknownOutcomeError(text, leader_id=reply.leader_id))
        elif isinstance(reply, replies.RejectedReply):
            self._end(asked, RejectedError(reply.text, leader_id=reply.leader_id))
        else:
            self._end(asked, UnknownOutcomeError("the node gave results to a request that has none"))

    def next_wakeup_ms(self) -> int | None:
        """When `poll` has something to do next, unless something arrives before."""
        times = [asked.reply.deadline_ms for asked in self._asked.values()]
        times += [reply.deadline_ms for reply in self._awaiting]
        times += [asked.at_ms for asked in self._asked.values() if asked.at_ms]
        return min(times, default=None)

    def close(self, error: RejectedError | None) -> None:
        """End every request; without an error forget them: nobody will look at them."""
        asked, awaiting = list(self._asked.values()), self._awaiting
        self._asked, self._awaiting = {}, []
        if error is None:
            return
        for reply in awaiting:
            reply.fail(error)
        for each in asked:
            each.reply.fail(UnknownOutcomeError(f"the request was sent; then {error}") if each.sent else error)

    def _end(self, asked: _Asked, error: RequestError) -> None:
        self._forget(asked)
        asked.reply.fail(error)

    def _forget(self, asked: _Asked) -> None:
        del self._asked[asked.request]
        if asked.address and all(other.address != asked.address for other in self._asked.values()):
            self._route.unwant(asked.address)

    def _end_awaiting(self, reply: Reply, now_ms: int) -> bool:
        refusal = self._route.refusal
        if self._route.welcomed:
            reply.complete_document(None)
        elif refusal is not None:
            reply.fail(RejectedError(str(refusal)))
        elif reply.deadline_ms <= now_ms:
            tried = self._route.describe()
            reply.fail(
                ClusterUnreachableError(f"no node answered within the deadline; nothing was sent; tried: {tried}")
            )
        return reply.done()

    def _overdue(self, asked: _Asked) -> RequestError:
        where = f"the node at {asked.address}" if asked.address else "the cluster"
        if asked.sent:
            return UnknownOutcomeError(f"{where} did not answer within the deadline; it may have done what was asked")
        tried = asked.address or self._route.describe()
        return ClusterUnreachableError(f"{where} was not reached within the deadline; tried: {tried}")
