"""One session as a state machine: what to send, what an answer means, when to look again. No I/O, no clock.

The driver puts requests in with `submit`, asks `poll` for what to send to the node that the route names, and brings the
answers to `receive`. Times are milliseconds of one monotonic clock.
"""

from __future__ import annotations

import random
from enum import Enum, auto

from raftactors.client.options import ClientOptions
from raftactors.client.outcomes import overdue, rejection
from raftactors.client.reply import Reply
from raftactors.client.route import UNSENT_RETRY_MS, Route
from raftactors.client.stream import CommandStream, Frame, QueryStream, Verdict
from raftactors.codec import frames, replies
from raftactors.codec.frames import FrameKind
from raftactors.errors import RejectedError, UnknownOutcomeError, WireError

SLOT_BITS = 8
"""The low bits of a request number name the session of the connection that it belongs to."""

BACKOFF_MS = 5
"""The second refusal in a row waits about this long, each further one twice as long. The first does not wait."""

EXPIRY_GRAIN_MS = 5
"""Deadlines are looked at no more often than this."""

STUCK_SILENCES = 3
"""After this many silences the oldest frame is sent elsewhere, even while the node answers others."""

_FAR = 2**62


class Control(Enum):
    """What a session asks for itself."""

    OPEN = auto()
    KEEP_ALIVE = auto()
    CLOSE = auto()


class SessionEngine:
    """One session of a client: commands exactly once and in order, queries at least once.

    An answer that is lost, late or a refusal makes the same sequences go out again, to whatever node the route names by
    then; the session table of the cluster executes each once (thesis section 6.3). `wire_errors` counts answers that
    made no sense.
    """

    def __init__(self, *, slot: int, route: Route, options: ClientOptions, random_source: random.Random) -> None:
        self.commands = CommandStream(options)
        self.queries = QueryStream(options)
        self.wire_errors = 0
        self._route = route
        self._options = options
        self._random = random_source
        self._slot = slot
        self._requests = 0
        self._generation = route.generation
        self._earliest_deadline_ms = _FAR
        self._control: tuple[Control, int, int] | None = None  # what is asked, its request, when it was sent
        self._refusals = 0
        self._stucks = 0
        self._doubting = False
        self._hold_until_ms = 0
        self._heard_ms = 0
        self._session_used_ms = 0
        self._busy_ms = 0
        self._unsent_since_ms: int | None = None
        self._closing = False

    # --- in ---

    def submit(self, reply: Reply) -> None:
        """Take a command (level 0) or a query."""
        (self.queries if reply.level else self.commands).waiting.append(reply)
        self._earliest_deadline_ms = min(self._earliest_deadline_ms, reply.deadline_ms)

    def pending(self) -> int:
        """Requests that wait for a frame; may be asked from any thread."""
        return len(self.commands.waiting) + len(self.queries.waiting)

    def has_requests(self) -> bool:
        """Whether anybody waits for a result."""
        return any(not reply.done() for stream in (self.commands, self.queries) for reply, _ in stream.requests())

    def receive(self, request: int, body: bytes | memoryview, now_ms: int) -> None:
        """Take one reply body. Nothing that a node sends makes this raise."""
        try:
            reply = replies.decode_reply(body)
        except WireError:
            self.wire_errors += 1
            return
        self._heard_ms = now_ms
        self._doubting = False
        self._unsent_since_ms = None
        if self._control is not None and request == self._control[1]:
            self._on_control(self._control[0], reply, now_ms)
            return
        frame = self.commands.frame_of(request)
        if frame is not None:
            self._on_commands(frame, request, reply, now_ms)
            return
        frame = self.queries.frame_of(request)
        if frame is not None:
            self._on_queries(frame, request, reply, now_ms)

    def unsent(self, now_ms: int) -> None:
        """A frame did not leave, because there is no connection or it takes no more: it goes out again a little later.

        A node that takes nothing for `probe_ms` is left for another one.
        """
        self._resend_all()
        # No refusal by a node, so it does not lengthen the pauses after those.
        self._hold_until_ms = max(self._hold_until_ms, now_ms + UNSENT_RETRY_MS)
        if self._unsent_since_ms is None:
            self._unsent_since_ms = now_ms
        elif now_ms - self._unsent_since_ms >= self._options.probe_ms:
            self._unsent_since_ms = None
            self._route.abandon(self._generation, now_ms)

    def close(self, error: RejectedError | None) -> None:
        """End every request, and ask for the session to be closed if one is open; `poll` sends that.

        Without an error the requests are forgotten: nobody will look at them.
        """
        self._closing = True
        if error is not None:
            self._fail_all(error)
        self.commands.waiting.clear()
        self.queries.waiting.clear()
        self.commands.forget()
        self.queries.forget()
        if not self.commands.session:
            self._control = None

    # --- out ---

    def poll(self, now_ms: int) -> list[tuple[FrameKind, bytes]]:
        """What to send now to the route's node: kind and body each."""
        if now_ms >= self._earliest_deadline_ms:
            self._expire(now_ms)
        refusal = self._route.refusal
        if refusal is not None:
            self._fail_all(refusal)
        self._watch(now_ms)
        if self._route.ready is None:
            return []
        if self._generation != self._route.generation:
            self._generation = self._route.generation
            self._unsent_since_ms = None
            self._resend_all()
        if self._route.limits is not None:
            self.commands.limits = self.queries.limits = self._route.limits
        if now_ms < self._hold_until_ms:
            return []
        self._hold_until_ms = 0
        return self._control_frames(now_ms) + self._request_frames(now_ms)

    def next_wakeup_ms(self) -> int:
        """When `poll` has something to do next, unless something arrives before."""
        earliest = self._earliest_deadline_ms
        if self._hold_until_ms and (self.commands.has_work() or self.queries.has_work() or self._closing):
            earliest = min(earliest, self._hold_until_ms)
        oldest = self._oldest_sent_ms()
        if oldest is not None:
            patience = self._options.silence_ms if self._doubting else self._options.probe_ms
            earliest = min(earliest, max(oldest, self._heard_ms) + patience, oldest + self._stuck_ms())
        elif self.commands.session:
            earliest = min(earliest, self._session_used_ms + self._keep_alive_ms())
        return earliest

    def closed(self) -> bool:
        """Whether a closing session has nothing left to say."""
        return self._closing and self._control is None and self.commands.session == 0

    # --- sending ---

    def _number(self) -> int:
        self._requests += 1
        return self._requests << SLOT_BITS | self._slot

    def _control_frames(self, now_ms: int) -> list[tuple[FrameKind, bytes]]:
        session = self.commands.session
        if self._control is not None or not (session or (self.commands.waiting and not self._closing)):
            return []
        if self._closing:
            request = self._ask(Control.CLOSE, now_ms)
            return [(FrameKind.CLOSE_SESSION, frames.encode_close_session(request, session))]
        if not session:
            request = self._ask(Control.OPEN, now_ms)
            return [(FrameKind.OPEN_SESSION, frames.encode_open_session(request))]
        if now_ms < self._session_used_ms + self._keep_alive_ms():
            return []
        request = self._ask(Control.KEEP_ALIVE, now_ms)
        self._session_used_ms = now_ms
        body = frames.encode_keep_alive(request, session=session, acked=self.commands.acked)
        return [(FrameKind.KEEP_ALIVE, body)]

    def _ask(self, what: Control, now_ms: int) -> int:
        request = self._number()
        self._control = (what, request, now_ms)
        return request

    def _request_frames(self, now_ms: int) -> list[tuple[FrameKind, bytes]]:
        out: list[tuple[FrameKind, bytes]] = []
        if self.commands.session and not self._closing:
            for body in self.commands.take(now_ms, self._number):
                self._session_used_ms = now_ms
                out.append((FrameKind.COMMANDS, body))
        out += [(FrameKind.QUERIES, body) for body in self.queries.take(now_ms, self._number)]
        return out

    def _resend_all(self) -> None:
        self._control = None
        self._doubting = False
        self.commands.rewind()
        self.queries.rewind()

    def _keep_alive_ms(self) -> int:
        return max(1, self.commands.limits.session_ttl_ms // 3)

    # --- waiting ---

    def _oldest_sent_ms(self) -> int | None:
        times = (
            self.commands.oldest_sent_ms(),
            self.queries.oldest_sent_ms(),
            self._control[2] if self._control is not None else None,
        )
        return min((sent_ms for sent_ms in times if sent_ms is not None), default=None)

    def _stuck_ms(self) -> int:
        return self._options.silence_ms * STUCK_SILENCES << min(self._stucks, 4)

    def _watch(self, now_ms: int) -> None:
        """Doubt, then leave, a node that owes an answer."""
        oldest = self._oldest_sent_ms()
        if oldest is None:
            return
        quiet_ms = now_ms - max(oldest, self._heard_ms)
        if quiet_ms >= self._options.silence_ms or now_ms - oldest >= self._stuck_ms():
            self._stucks += 1
            self.commands.halve()
            self.queries.halve()
            self._route.abandon(self._generation, now_ms)
        elif quiet_ms >= self._options.probe_ms and not self._doubting:
            self._doubting = True
            self._route.doubt(now_ms)

    def _back_off(self, now_ms: int, at_least_ms: int = 0) -> None:
        """Hold everything back for a random time that doubles with each refusal in a row; the first one is free."""
        if now_ms < self._hold_until_ms:
            return
        ceiling = BACKOFF_MS << min(self._refusals - 1, 16) if self._refusals else 0
        ceiling = max(min(ceiling, self._options.backoff_ms_max), at_least_ms)
        self._refusals += 1
        if ceiling:
            self._hold_until_ms = now_ms + max(1, at_least_ms, round(ceiling * self._random.uniform(0.5, 1.5)))

    def _progress(self) -> None:
        self._refusals = self._stucks = self._busy_ms = 0
        self._route.settled()

    # --- answers ---

    def _on_commands(self, frame: Frame, request: int, reply: replies.Reply, now_ms: int) -> None:
        if isinstance(reply, replies.ResultsReply):
            verdict = self.commands.on_results(frame, request, reply)
            if verdict is Verdict.PROGRESS:
                self._progress()
                self._follow(reply.leader_id, now_ms)
            elif verdict is Verdict.REFUSED:
                self.commands.rewind()
                self._back_off(now_ms)
            elif verdict is Verdict.EXPIRED:
                self._expire_session()
            elif verdict is Verdict.MALFORMED:
                self.wire_errors += 1
        elif request != frame.request:
            return  # A refusal of an attempt that has been repeated since says nothing about the newer one.
        elif isinstance(reply, replies.RejectedReply | replies.TooLargeReply):
            self.commands.on_rejected(frame, rejection(reply))
            self._back_off(now_ms)
        elif isinstance(reply, replies.BusyReply | replies.RetryReply):
            self.commands.rewind()
            self._refused(reply, now_ms)
        else:
            self.wire_errors += 1

    def _on_queries(self, frame: Frame, request: int, reply: replies.Reply, now_ms: int) -> None:
        if isinstance(reply, replies.ResultsReply):
            if self.queries.on_results(frame, reply) is Verdict.MALFORMED:
                self.wire_errors += 1
                return
            self._progress()
            self._follow(reply.leader_id, now_ms)
        elif request != frame.request:
            return
        elif isinstance(reply, replies.RejectedReply | replies.TooLargeReply):
            self.queries.on_rejected(frame, rejection(reply))
        elif isinstance(reply, replies.BusyReply | replies.RetryReply):
            self.queries.again(frame)
            self._refused(reply, now_ms)
        else:
            self.wire_errors += 1

    def _on_control(self, what: Control, reply: replies.Reply, now_ms: int) -> None:
        self._control = None
        if isinstance(reply, replies.BusyReply | replies.RetryReply):
            self._refused(reply, now_ms)
            if what is Control.KEEP_ALIVE:
                self._session_used_ms -= self._keep_alive_ms()  # It is due still.
        elif what is Control.CLOSE:
            self.commands.session = 0
        elif what is Control.KEEP_ALIVE:
            if isinstance(reply, replies.DocumentReply):
                self._progress()
            else:
                self._expire_session()
        elif isinstance(reply, replies.DocumentReply) and type(reply.document) is int and reply.document > 0:
            self.commands.session = reply.document
            self._session_used_ms = now_ms
            self._progress()
            self._follow(reply.leader_id, now_ms)
        elif isinstance(reply, replies.RejectedReply | replies.TooLargeReply):
            for waiter in self.commands.waiting:
                waiter.fail(RejectedError(f"the cluster refused to open a session: {reply.text}"))
            self.commands.drop_done_waiting()
        else:
            self.wire_errors += 1
            self._back_off(now_ms)

    def _refused(self, reply: replies.BusyReply | replies.RetryReply, now_ms: int) -> None:
        if isinstance(reply, replies.BusyReply):
            self._busy_ms = max(1, min(reply.retry_after_ms, self._options.timeout_ms))
            self._back_off(now_ms, self._busy_ms)
            return
        self._back_off(now_ms)
        self._route.hint(reply.leader_id, now_ms)

    def _follow(self, leader_id: int, now_ms: int) -> None:
        target = self._route.ready
        if leader_id and target is not None and target.node_id != leader_id:
            self._route.hint(leader_id, now_ms)

    def _expire_session(self) -> None:
        self.commands.expire_session()
        self._control = None

    # --- ends without an answer ---

    def _expire(self, now_ms: int) -> None:
        earliest = _FAR
        for stream in (self.commands, self.queries):
            for reply, sent in stream.requests():
                if reply.done():
                    continue
                if reply.deadline_ms <= now_ms:
                    reply.fail(overdue(self._route, sent=sent, is_query=bool(reply.level), busy_ms=self._busy_ms))
                else:
                    earliest = min(earliest, reply.deadline_ms)
            stream.drop_done_waiting()
        self.queries.drop_abandoned()
        self._earliest_deadline_ms = earliest if earliest == _FAR else max(earliest, now_ms + EXPIRY_GRAIN_MS)

    def _fail_all(self, error: RejectedError) -> None:
        for stream in (self.commands, self.queries):
            for reply, sent in stream.requests():
                if sent and not reply.level:
                    reply.fail(UnknownOutcomeError(f"the command was sent and may have been executed; then {error}"))
                else:
                    reply.fail(type(error)(str(error)))
            stream.drop_done_waiting()
        self.queries.drop_abandoned()
        self._earliest_deadline_ms = _FAR
