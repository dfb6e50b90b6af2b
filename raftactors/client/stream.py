"""The ordered stream of one session's commands, and the unordered one of its queries: frames, window, resending."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum, auto

from raftactors.client.options import FRAME_OVERHEAD_BYTES, ClientOptions, NodeLimits
from raftactors.client.outcomes import too_large
from raftactors.client.reply import Reply
from raftactors.codec import frames
from raftactors.codec.frames import FRAME_COMMANDS_MAX, Level
from raftactors.codec.replies import ResultsReply, ResultStatus
from raftactors.errors import RequestError, SessionExpiredError, UnknownOutcomeError

LENGTH_BYTES = 4
"""What each command takes in the length table."""

HALVED_AFTER = 2
"""A frame of several requests that was sent this often without an answer is cut in two."""

TOMBSTONE = frames.encode_call("")
"""What fills the sequence of a command that was refused for good: a call of no method, which changes nothing."""


class Verdict(Enum):
    """What an answer meant for the frame that it belongs to."""

    STALE = auto()  # nobody waits for it
    PROGRESS = auto()  # something got its end
    REFUSED = auto()  # not executed now, to be sent again in order
    EXPIRED = auto()  # the session is gone
    MALFORMED = auto()  # it does not fit what was asked


class Frame:
    """Requests that travel together. `request` numbers the attempt under way, 0 if it is to be sent (again)."""

    __slots__ = (
        "attempts",
        "done",
        "first_sequence",
        "packed",
        "rejection",
        "replies",
        "request",
        "sent_count",
        "sent_ms",
    )

    def __init__(self, first_sequence: int, replies: list[Reply]) -> None:
        self.first_sequence = first_sequence
        self.replies = replies
        self.packed = [reply.packed for reply in replies]
        self.request = 0
        self.sent_ms = 0
        self.sent_count = 0
        self.attempts: list[int] = []
        self.done = False
        self.rejection: RequestError | None = None


class FrameWindow:
    """Frames under way, oldest first, and the requests that wait for a frame."""

    def __init__(self, options: ClientOptions) -> None:
        self.waiting: deque[Reply] = deque()
        self.frames: deque[Frame] = deque()
        self.limits = NodeLimits()
        self._frames_max = options.frames_inflight_max
        self._by_request: dict[int, Frame] = {}
        self._resend = False

    def oldest_sent_ms(self) -> int | None:
        """When the oldest unanswered attempt was sent; None while nothing is owed."""
        return next((frame.sent_ms for frame in self.frames if frame.request and not frame.done), None)

    def requests(self) -> Iterator[tuple[Reply, bool]]:
        """Every request here, and whether it was sent."""
        for frame in self.frames:
            for reply in frame.replies:
                yield reply, True
        for reply in self.waiting:
            yield reply, False

    def has_work(self) -> bool:
        """Whether something waits to be sent and may be."""
        return self._resend or (bool(self.waiting) and len(self.frames) < self._frames_max)

    def rewind(self) -> None:
        """Everything without a result is to be sent again, in order."""
        for frame in self.frames:
            if not frame.done:
                frame.request = 0
                self._resend = True

    def halve(self) -> None:
        """Cut frames in two that were sent twice without an answer: it may be too large for a frame of the node."""
        if not any(frame.sent_count >= HALVED_AFTER and len(frame.replies) > 1 for frame in self.frames):
            return
        halves: deque[Frame] = deque()
        for frame in self.frames:
            middle = len(frame.replies) // 2
            if frame.done or frame.sent_count < HALVED_AFTER or middle == 0:
                halves.append(frame)
                continue
            self._forget_attempts(frame)
            for first, part in ((0, slice(0, middle)), (middle, slice(middle, None))):
                half = Frame(frame.first_sequence + first, frame.replies[part])
                half.packed, half.rejection = frame.packed[part], frame.rejection
                half.sent_count = frame.sent_count
                halves.append(half)
        self.frames = halves
        self._resend = True

    def again(self, frame: Frame) -> None:
        """This frame is to be sent again, whatever became of its last attempt."""
        frame.request = 0
        self._resend = True

    def frame_of(self, request: int) -> Frame | None:
        """The frame that an answer belongs to, if it still waits for one."""
        return self._by_request.get(request)

    def drop_done_waiting(self) -> None:
        """Forget requests that were given up before they were sent."""
        self.waiting = deque(reply for reply in self.waiting if not reply.done())

    def forget(self) -> None:
        """Drop every frame; the requests in them have their end already."""
        self.frames.clear()
        self._by_request.clear()
        self._resend = False

    def _sent(self, frame: Frame, request: int, now_ms: int) -> None:
        frame.request = request
        frame.sent_ms = now_ms
        frame.sent_count += 1
        frame.attempts.append(request)
        self._by_request[request] = frame

    def _finish(self, frame: Frame) -> None:
        frame.done = True
        self._forget_attempts(frame)
        while self.frames and self.frames[0].done:
            self.frames.popleft()

    def _forget_attempts(self, frame: Frame) -> None:
        for request in frame.attempts:
            del self._by_request[request]
        frame.attempts = []

    def _trim(self, frame: Frame, count: int) -> None:
        """The first `count` requests have their results: send only the rest again."""
        self._forget_attempts(frame)
        frame.first_sequence += count
        del frame.replies[:count], frame.packed[:count]
        self.again(frame)

    def _fill(self, count_max: int, same_level: bool) -> list[Reply]:
        """Take what waits, in order, up to the limits of one frame. What is too large for any frame is refused here."""
        waiting = self.waiting
        batch: list[Reply] = []
        count_max = min(count_max, FRAME_COMMANDS_MAX)
        command_max = self.limits.command_bytes_max
        room = self.limits.client_frame_bytes_max - FRAME_OVERHEAD_BYTES + LENGTH_BYTES
        while waiting and len(batch) < count_max:
            reply = waiting[0]
            size = len(reply.packed)
            if size > command_max:
                waiting.popleft()
                reply.fail(too_large(size, command_max))
                continue
            room -= size + LENGTH_BYTES
            if (room < 0 and batch) or (same_level and batch and reply.level != batch[0].level):
                break
            batch.append(waiting.popleft())
        return batch


class CommandStream(FrameWindow):
    """Commands of one session in the order of their sequences.

    A sequence is given when a command is sent for the first time, and belongs to it for ever: whatever the outcome, the
    sequence stays in the stream until the cluster has answered it, because the session executes sequences without gaps
    (thesis section 6.3). A command refused for good leaves a tombstone in its place.
    """

    def __init__(self, options: ClientOptions) -> None:
        super().__init__(options)
        self.session = 0
        self._next_sequence = 1
        self._answered_request = 0

    @property
    def acked(self) -> int:
        """Every sequence up to this one has its result."""
        return (self.frames[0].first_sequence if self.frames else self._next_sequence) - 1

    def take(self, now_ms: int, number: Callable[[], int]) -> list[bytes]:
        """The COMMANDS bodies to send now: what must be sent again first, then what waits, within the window."""
        bodies: list[bytes] = []
        if self._resend or (self.frames and 0 < self.frames[0].request < self._answered_request):
            self._resend = False
            for frame in self.frames:
                # A later attempt on the same connection has its results, so this one's are lost.
                if not frame.done and frame.request < self._answered_request:
                    frame.request = 0
                if not frame.done and frame.request == 0:
                    bodies.append(self._send(frame, now_ms, number()))
        while self.waiting and len(self.frames) < self._frames_max:
            # Counted from the acknowledged prefix: the session keeps every result behind it.
            room = self.limits.session_inflight_max - (self._next_sequence - 1 - self.acked)
            batch = self._fill(room, same_level=False) if room > 0 else []
            if not batch:
                break
            frame = Frame(self._next_sequence, batch)
            self._next_sequence += len(batch)
            self.frames.append(frame)
            bodies.append(self._send(frame, now_ms, number()))
        return bodies

    def on_results(self, frame: Frame, request: int, reply: ResultsReply) -> Verdict:
        """Give each command its result. Sequences that were executed earlier come with their first result."""
        if reply.first_sequence != frame.first_sequence or len(reply.results) != len(frame.replies):
            return Verdict.MALFORMED
        index = reply.index
        for place, (waiter, (status, content)) in enumerate(zip(frame.replies, reply.results, strict=True)):
            if status <= ResultStatus.ARGUMENTS:
                if frame.rejection is not None and status == ResultStatus.UNKNOWN_METHOD:
                    waiter.fail(frame.rejection)  # The tombstone was executed, so the command never is.
                else:
                    waiter.complete(status, content, index)
            elif status == ResultStatus.SESSION_EXPIRED:
                return Verdict.EXPIRED
            elif status == ResultStatus.ALREADY_ACKED:
                waiter.fail(UnknownOutcomeError("the command was executed, but its result is no longer kept"))
            else:  # OUT_OF_ORDER or WINDOW_FULL: neither this nor a later one was executed.
                current = request == frame.request
                if place:
                    self._trim(frame, place)
                return Verdict.REFUSED if current else Verdict.STALE
        self._answered_request = max(self._answered_request, request)
        self._finish(frame)
        return Verdict.PROGRESS

    def on_rejected(self, frame: Frame, error: RequestError) -> None:
        """The frame was refused for good: tell its callers, and fill its sequences with tombstones.

        If it was sent more than once, an earlier attempt may have been executed; then the answer to the tombstones
        tells, because a sequence that was executed answers with its first result.
        """
        frame.rejection = error
        frame.packed = [TOMBSTONE] * len(frame.packed)
        if frame.sent_count == 1:
            for waiter in frame.replies:
                waiter.fail(error)
        self.rewind()

    def expire_session(self) -> None:
        """The session is gone: what was sent has an open outcome and ends here; what waits goes to the next session."""
        for frame in self.frames:
            for waiter in frame.replies:
                if not waiter.done():  # An error for each, since each may be raised with a traceback of its own.
                    waiter.fail(
                        SessionExpiredError(
                            f"session {self.session} has expired in the cluster; the command was sent and may have "
                            "been executed before, it will not be executed again"
                        )
                    )
        self.forget()
        self.session, self._next_sequence = 0, 1

    def _send(self, frame: Frame, now_ms: int, request: int) -> bytes:
        self._sent(frame, request, now_ms)
        return frames.encode_commands(
            request,
            session=self.session,
            first_sequence=frame.first_sequence,
            acked=self.acked,
            commands=frame.packed,
        )


class QueryStream(FrameWindow):
    """Queries: no order and no effects, so a frame may be asked as often as needed.

    A reply may hold the results of the first queries of its frame only, when they are large or slow. Then the others
    are asked in frames of as many as were answered, and a frame of that many that is answered as a whole raises the
    number by a quarter. So few queries are sent twice, and several frames are under way while the first is answered.
    """

    def __init__(self, options: ClientOptions) -> None:
        super().__init__(options)
        self._count_max = FRAME_COMMANDS_MAX

    def take(self, now_ms: int, number: Callable[[], int]) -> list[bytes]:
        """The QUERIES bodies to send now."""
        bodies: list[bytes] = []
        if self._resend:
            self._resend = False
            bodies += [
                self._send(frame, now_ms, number()) for frame in self.frames if not (frame.done or frame.request)
            ]
        while self.waiting and len(self.frames) < self._frames_max:
            batch = self._fill(self._count_max, same_level=True)
            if not batch:
                break
            frame = Frame(0, batch)
            self.frames.append(frame)
            bodies.append(self._send(frame, now_ms, number()))
        return bodies

    def on_results(self, frame: Frame, reply: ResultsReply) -> Verdict:
        """Give each query its answer."""
        if len(reply.results) != len(frame.replies):
            return Verdict.MALFORMED
        for place, (waiter, (status, content)) in enumerate(zip(frame.replies, reply.results, strict=True)):
            if status == ResultStatus.OUT_OF_ORDER:
                # The results up to here filled the reply; the node is asked for the others again.
                if not place:
                    return Verdict.MALFORMED
                self._count_max = place
                self._ask_later(frame, 2 * place)  # What remains is again a frame of `place`.
                self._trim(frame, place)
                return Verdict.PROGRESS
            waiter.complete(status, content, reply.index)
        if len(frame.replies) >= self._count_max:
            self._count_max = min(self._count_max + 1 + self._count_max // 4, FRAME_COMMANDS_MAX)
        self._finish(frame)
        return Verdict.PROGRESS

    def on_rejected(self, frame: Frame, error: RequestError) -> None:
        """The frame was refused for good: tell its callers."""
        for waiter in frame.replies:
            waiter.fail(error)
        self._finish(frame)

    def drop_abandoned(self) -> None:
        """Forget frames whose every query was given up, so that they are not asked again."""
        for frame in [frame for frame in self.frames if all(waiter.done() for waiter in frame.replies)]:
            self._finish(frame)

    def _ask_later(self, frame: Frame, first: int) -> None:
        """Put the queries of the frame from this place on before those that wait."""
        self.waiting.extendleft(reply for reply in reversed(frame.replies[first:]) if not reply.done())
        del frame.replies[first:], frame.packed[first:]

    def _send(self, frame: Frame, now_ms: int, request: int) -> bytes:
        self._sent(frame, request, now_ms)
        return frames.encode_queries(request, level=Level(frame.replies[0].level), queries=frame.packed)
