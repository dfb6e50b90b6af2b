"""The actor that owns the clients' socket."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from raftactors.actors.base import BatchActor
from raftactors.actors.client_accounts import Account, ClientAccounts
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import (
    AdminRequest,
    AnswersFlow,
    ClientFrame,
    Drain,
    LeaderChanged,
    Proposals,
    Reads,
    Refused,
    Replies,
    Tick,
)
from raftactors.codec import frames, replies
from raftactors.codec.frames import FrameKind, Welcome
from raftactors.config import NodeConfig
from raftactors.errors import WireError
from raftactors.transport.client_endpoint import ClientEndpoint

RECEIVE_FRAMES_MAX = 512
"""Client frames taken from the socket in one turn."""

RECEIVE_BYTES_MAX = 4 * 1024 * 1024
"""After so many bytes a turn takes no more frames, so that it has a bound in memory and time."""

RECEIVE_FRAMES_STEP = 16
"""Frames taken from the socket before their bytes are counted."""

LOOK_S = 0.005
"""Seconds between two looks at the connections that read after they were held."""

BUSY_RETRY_AFTER_MS = 20
"""What a refused client is told to wait; it adds its own jitter."""

PENDING_TICKS_MAX = 200
"""Ticks after which a frame that nobody answered is forgotten; its client has long sent it again."""

REPLY_BYTES = 16
"""What a reply takes in the table of its frame, and what the table's head takes, generously."""

_PROPOSED = frozenset({FrameKind.COMMANDS, FrameKind.OPEN_SESSION, FrameKind.CLOSE_SESSION, FrameKind.KEEP_ALIVE})

_CHECKS: dict[FrameKind, Callable[[memoryview], object]] = {
    FrameKind.OPEN_SESSION: frames.decode_open_session,
    FrameKind.CLOSE_SESSION: frames.decode_close_session,
    FrameKind.KEEP_ALIVE: frames.decode_keep_alive,
    FrameKind.QUERIES: frames.check_queries,
}


class Gateway(BatchActor):
    """Takes client frames, numbers them, and brings the replies back, one frame a client and batch.

    A command is never decoded here. What cannot be taken is answered at once: BUSY when a limit is reached, RETRY when
    there is no leader to give it to or the leader changed while it was under way (with a session, sending it again is
    safe). What a connection may have under way and unread is `ClientAccounts`' to say; the application is told whose
    queries it is to hold back.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        config: NodeConfig,
        endpoint: ClientEndpoint,
        consensus: Mailbox,
        application: Mailbox,
        monitor: Mailbox,
        option_arguments: tuple[tuple[str, str], ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(mailbox)
        self._config = config
        self._option_arguments = option_arguments
        self._endpoint = endpoint
        self._consensus = consensus
        self._application = application
        self._clock = clock
        self._administered_by = {"status": monitor, "state_digest": application, "snapshot": application}
        self._clients = ClientAccounts(config.limits, endpoint, tick_ms=config.timing.tick_ms)
        self._taken_bytes = 0
        # The application waits when a frame's worth of answers was not taken, so it must hear of less.
        self._taken_bytes_step = config.limits.client_frame_bytes_max // 4
        self._look_due_s = 0.0
        self._next_id = 1
        self._leader_id = 0
        self._proposals: list[ClientFrame] = []
        self._reads: list[ClientFrame] = []
        self._outgoing: dict[bytes, list[tuple[int, bytes]]] = {}
        self._draining: Callable[[], None] | None = None
        self._malformed: Counter[str] = Counter()
        self.handlers = {
            Replies: self._on_replies,
            Refused: self._on_refused,
            LeaderChanged: self._on_leader_changed,
            Tick: self._on_tick,
            Drain: self._on_drain,
        }

    # --- from the other actors ---

    def _on_replies(self, answered: Replies) -> None:
        self._taken_bytes += answered.counted_bytes
        for pending_id, body in answered.replies:
            self._reply(pending_id, body)

    def _on_refused(self, refused: Refused) -> None:
        if refused.busy:
            body = replies.encode_busy(self._leader_id, BUSY_RETRY_AFTER_MS)
        else:
            body = replies.encode_retry(self._leader_id)
        for pending_id in refused.pending_ids:
            self._reply(pending_id, body)

    def _on_leader_changed(self, change: LeaderChanged) -> None:
        self._leader_id = change.leader_id
        # What is under way may be lost with the old leader or may still commit; only the session table can tell, so
        # the clients send it again at once instead of waiting for their timers. What this node itself was asked to do
        # goes on.
        lost = [pending_id for pending_id, pending in self._clients.pending.items() if not pending.outlives_leader]
        self._on_refused(Refused(lost))

    def _on_tick(self, tick: Tick) -> None:
        tick.waiting = False
        self._clients.tick()
        self._clients.forget_older(PENDING_TICKS_MAX)

    def _on_drain(self, drain: Drain) -> None:
        self._draining = drain.done

    def _reply(self, pending_id: int, body: bytes) -> None:
        pending = self._clients.end(pending_id)
        if pending is not None:
            self._outgoing.setdefault(pending.account.routing_id, []).append((pending.request, body))

    # --- from the clients ---

    def flush(self) -> None:
        """Take what clients sent, pass it on, and send the replies of the batch."""
        self._receive()
        self._pass_on()
        if self._outgoing:
            outgoing, self._outgoing = self._outgoing, {}
            for routing_id, answers in outgoing.items():
                self._send_replies(routing_id, answers)
        self._look_at_held()
        self._tell_flow()
        if self._draining is not None and not self._clients.pending:
            self._draining()
            self._draining = None

    def _receive(self) -> None:
        frames_left, bytes_left = RECEIVE_FRAMES_MAX, RECEIVE_BYTES_MAX
        while frames_left > 0 and bytes_left > 0:
            arrived = self._endpoint.receive(RECEIVE_FRAMES_STEP)
            for routing_id, envelope, body in arrived:
                bytes_left -= len(body)
                try:
                    self._take(routing_id, envelope.kind, body)
                except WireError as error:
                    self._malformed[error.reason] += 1
            if len(arrived) < RECEIVE_FRAMES_STEP:
                break
            frames_left -= RECEIVE_FRAMES_STEP

    def _look_at_held(self) -> None:
        """Let go on who has read; who reads is looked at again soon, the others at the next tick."""
        if not self._clients.has_held:
            self.mailbox.idle_timeout_s = None
            return
        now_s = self._clock()
        if now_s >= self._look_due_s:
            self._look_due_s = now_s + LOOK_S
            self.mailbox.idle_timeout_s = LOOK_S if self._clients.look_at_held() else None

    def _tell_flow(self) -> None:
        changes = self._clients.take_changes()
        if changes is not None or self._taken_bytes >= self._taken_bytes_step:
            self._application.tell(AnswersFlow(self._taken_bytes, *(changes or ())), Lane.STORAGE)
            self._taken_bytes = 0

    def _send_replies(self, routing_id: bytes, answers: list[tuple[int, bytes]]) -> None:
        """One frame for all of them, or as few as their size allows. A client that does not read loses its replies."""
        part: list[tuple[int, bytes]] = []
        size = REPLY_BYTES
        for answer in answers:
            cost = len(answer[1]) + REPLY_BYTES
            if part and size + cost > self._endpoint.body_bytes_max:
                self._clients.send(routing_id, FrameKind.REPLIES, replies.encode_replies(part))
                part, size = [], REPLY_BYTES
            part.append(answer)
            size += cost
        self._clients.send(routing_id, FrameKind.REPLIES, replies.encode_replies(part))

    def _take(self, routing_id: bytes, kind: int, body: memoryview) -> None:
        request, rest = frames.split_request(body)
        if kind == FrameKind.HELLO:
            self._clients.send(routing_id, FrameKind.WELCOME, frames.encode_welcome(self._welcome()))
            return
        account = self._clients.of(routing_id)
        refusal = self._refusal(account, kind, rest)
        if refusal is not None:
            self._outgoing.setdefault(routing_id, []).append((request, refusal))
            return
        pending_id = self._next_id
        self._next_id += 1
        self._clients.begin(pending_id, account, request, len(rest), outlives_leader=kind == FrameKind.ADMIN)
        if kind == FrameKind.ADMIN:
            self._administer(pending_id, rest)
            return
        frame = ClientFrame(pending_id, bytes((kind,)) + rest, routing_id)
        (self._proposals if kind in _PROPOSED else self._reads).append(frame)

    def _refusal(self, account: Account, kind: int, rest: memoryview) -> bytes | None:
        """The reply to a frame that goes no further, or None. Raises WireError for a frame that does not hold together.

        What passes here goes through the log as it is, so its structure is checked now and never again. The limits come
        first: under overload a refusal must cost next to nothing.
        """
        if not self._clients.admits(account):
            return replies.encode_busy(self._leader_id, BUSY_RETRY_AFTER_MS)
        if kind == FrameKind.ADMIN:
            return None
        if kind == FrameKind.COMMANDS:
            largest, limit = frames.read_commands_header(rest).largest, self._config.limits.command_bytes_max
            if largest > limit:
                text = f"a command of {largest} bytes exceeds command_bytes_max ({limit}); split it or raise the limit"
                return replies.encode_too_large(self._leader_id, text)
        elif kind in _CHECKS:
            _CHECKS[FrameKind(kind)](rest)
        else:
            return replies.encode_rejected(self._leader_id, f"a client may not send frame kind {kind}")
        if self._draining is not None or self._leader_id == 0:
            return replies.encode_retry(self._leader_id)
        return None

    def _administer(self, pending_id: int, rest: memoryview) -> None:
        try:
            operation, arguments = frames.decode_admin(rest)
        except WireError as error:
            self._reply(pending_id, replies.encode_rejected(self._leader_id, str(error)))
            return
        target = self._administered_by.get(operation, self._consensus)
        if not target.tell(AdminRequest(pending_id, operation, tuple(arguments)), Lane.CLIENTS):
            self._reply(pending_id, replies.encode_busy(self._leader_id, BUSY_RETRY_AFTER_MS))

    def _pass_on(self) -> None:
        if self._proposals:
            proposals, self._proposals = self._proposals, []
            self._offer(Proposals(proposals), proposals)
        if self._reads:
            reads, self._reads = self._reads, []
            self._offer(Reads(reads), reads)

    def _offer(self, message: Proposals | Reads, offered: list[ClientFrame]) -> None:
        if not self._consensus.tell(message, Lane.CLIENTS):
            body = replies.encode_busy(self._leader_id, BUSY_RETRY_AFTER_MS)
            for frame in offered:
                self._reply(frame.pending_id, body)

    def _welcome(self) -> Welcome:
        config, limits = self._config, self._config.limits
        return Welcome(
            node_id=config.node_id,
            leader_id=self._leader_id,
            members=[(member.node_id, member.client_address) for member in config.members],
            limits={
                "command_bytes_max": limits.command_bytes_max,
                "client_frame_bytes_max": limits.client_frame_bytes_max,
                "session_inflight_max": limits.session_inflight_max,
                "session_ttl_ms": limits.session_ttl_ms,
            },
            application=config.application,
            cluster_id=config.cluster_id,
            option_arguments=self._option_arguments,
        )

    def shut_down(self) -> None:
        """Answer what still waits, then close the socket."""
        self._on_refused(Refused(list(self._clients.pending)))
        self.flush()
        self._endpoint.close()
