"""The gateway: every client frame gets exactly one answer, and what cannot be taken is said at once."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from raftactors.actors.gateway import LOOK_S, PENDING_TICKS_MAX, RECEIVE_BYTES_MAX, RECEIVE_FRAMES_STEP, Gateway
from raftactors.actors.mailbox import Batch, Mailbox
from raftactors.actors.messages import (
    AdminRequest,
    AnswersFlow,
    Drain,
    LeaderChanged,
    Proposals,
    Reads,
    Refused,
    Replies,
    Tick,
)
from raftactors.codec import frames, replies
from raftactors.codec.frames import FrameKind, Level
from raftactors.codec.replies import BusyReply, RejectedReply, RetryReply, TooLargeReply
from raftactors.config import Limits, Member, NodeConfig
from raftactors.transport import ClientEndpoint
from raftactors.transport.envelope import Envelope

ANN, BEN = b"ann", b"ben"


class FakeEndpoint:
    def __init__(self) -> None:
        self.inbound: list[tuple[bytes, Envelope, memoryview]] = []
        self.sent: list[tuple[bytes, int, bytes]] = []
        self.unread: dict[bytes, int] = {}
        self.cuts: list[bytes] = []
        self.closed = False
        self.body_bytes_max = 1000

    def receive(self, limit: int) -> list[tuple[bytes, Envelope, memoryview]]:
        taken, self.inbound = self.inbound[:limit], self.inbound[limit:]
        return taken

    def send(self, routing_id: bytes, kind: int, body: bytes) -> bool:
        self.sent.append((routing_id, kind, body))
        return True

    def unread_bytes(self, routing_id: bytes) -> int:
        return self.unread.get(routing_id, 0)

    def cut(self, routing_id: bytes) -> None:
        self.cuts.append(routing_id)
        self.unread.pop(routing_id, None)

    def close(self) -> None:
        self.closed = True


class Rig:
    def __init__(self, *, leader_id: int = 1, **limits: int) -> None:
        member = Member(node_id=1, peer_address="127.0.0.1:1", client_address="127.0.0.1:2")
        config = NodeConfig(cluster_id=7, node_id=1, data_dir=Path("x"), members=(member,), limits=Limits(**limits))
        self.clock_s = 0.0
        self.endpoint = FakeEndpoint()
        self.consensus = Mailbox("consensus", messages_max=1)
        self.monitor = Mailbox("monitor", messages_max=10)
        self.application = Mailbox("application", messages_max=10)
        self.gateway = Gateway(
            Mailbox("gateway", messages_max=10),
            config=config,
            endpoint=cast(ClientEndpoint, self.endpoint),
            consensus=self.consensus,
            application=self.application,
            monitor=self.monitor,
            clock=lambda: self.clock_s,
        )
        self.tell(LeaderChanged(leader_id, 1))

    def tell(self, *messages: object) -> None:
        self.gateway.on_receive(Batch(list(messages)))

    def client_sends(self, routing_id: bytes, kind: int, body: bytes) -> None:
        self.endpoint.inbound.append((routing_id, Envelope(kind, 7, 1, 0, 0), memoryview(body)))
        self.tell()

    def answers(self, routing_id: bytes) -> list[tuple[int, object]]:
        return [
            (request, replies.decode_reply(body))
            for to, kind, frame in self.endpoint.sent
            if to == routing_id and kind == FrameKind.REPLIES
            for request, body in replies.decode_replies(frame)
        ]

    def flow(self) -> AnswersFlow:
        (message,) = self.application.get().message.messages
        assert isinstance(message, AnswersFlow)
        return message

    def proposed(self) -> Proposals:
        (message,) = self.consensus.get().message.messages
        assert isinstance(message, Proposals)
        return message


def commands(request: int, *texts: bytes) -> bytes:
    return frames.encode_commands(request, session=5, first_sequence=1, acked=0, commands=texts)


def test_a_frame_of_commands_is_proposed_undecoded_and_its_reply_finds_the_client() -> None:
    rig = Rig()
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(11, b"not even msgpack"))
    (frame,) = rig.proposed().frames
    assert frame.payload[0] == FrameKind.COMMANDS
    assert frames.decode_commands(memoryview(frame.payload)[1:]).commands == [b"not even msgpack"]
    rig.tell(Replies([(frame.pending_id, replies.encode_results(9, 1, 1, [(0, b"r")]))]))
    ((request, answer),) = rig.answers(ANN)
    assert request == 11
    assert isinstance(answer, replies.ResultsReply)
    assert answer.index == 9


def test_the_replies_of_a_batch_travel_in_one_frame_a_client() -> None:
    rig = Rig()
    for request in (1, 2, 3):
        rig.endpoint.inbound.append((ANN, Envelope(3, 7, 1, 0, 0), memoryview(commands(request, b"c"))))
    rig.endpoint.inbound.append((BEN, Envelope(3, 7, 1, 0, 0), memoryview(commands(4, b"c"))))
    rig.tell()
    body = replies.encode_results(9, 1, 1, [])
    rig.tell(Replies([(frame.pending_id, body) for frame in rig.proposed().frames]))
    assert [(to, len(rig.answers(to))) for to, _, _ in rig.endpoint.sent] == [(ANN, 3), (BEN, 1)]


def test_replies_that_exceed_a_frame_travel_in_several() -> None:
    rig = Rig()
    for request in (1, 2, 3):
        rig.endpoint.inbound.append((ANN, Envelope(3, 7, 1, 0, 0), memoryview(commands(request, b"c"))))
    rig.tell()
    body = replies.encode_results(9, 1, 1, [(0, bytes(400))])
    rig.tell(Replies([(frame.pending_id, body) for frame in rig.proposed().frames]))
    assert len(rig.endpoint.sent) == 2
    assert all(len(body) <= rig.endpoint.body_bytes_max for _, _, body in rig.endpoint.sent)
    assert [request for request, _ in rig.answers(ANN)] == [1, 2, 3]


def test_without_a_leader_commands_and_queries_are_sent_back_at_once() -> None:
    rig = Rig(leader_id=0)
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"c"))
    rig.client_sends(ANN, FrameKind.QUERIES, frames.encode_queries(2, level=Level.LINEARIZABLE, queries=[b"q"]))
    assert [(request, type(answer)) for request, answer in rig.answers(ANN)] == [(1, RetryReply), (2, RetryReply)]
    assert rig.consensus.empty()


def test_a_change_of_leader_sends_back_what_is_under_way_and_names_the_new_one() -> None:
    rig = Rig()
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"c"))
    (frame,) = rig.proposed().frames
    rig.tell(LeaderChanged(3, 2))
    ((request, answer),) = rig.answers(ANN)
    assert (request, answer) == (1, RetryReply(index=0, leader_id=3))
    # The entry may commit all the same; its late reply has no addressee any more and is dropped.
    rig.tell(Replies([(frame.pending_id, replies.encode_results(9, 1, 1, []))]))
    assert len(rig.answers(ANN)) == 1


def test_a_full_consensus_mailbox_means_busy() -> None:
    rig = Rig()
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"c"))
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(2, b"c"))
    ((request, answer),) = rig.answers(ANN)
    assert request == 2
    assert isinstance(answer, BusyReply)
    assert answer.retry_after_ms > 0


def test_pending_frames_are_bounded() -> None:
    rig = Rig(pending_frames_max=1)
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"c"))
    rig.proposed()
    rig.client_sends(BEN, FrameKind.COMMANDS, commands(2, b"c"))
    assert isinstance(rig.answers(BEN)[0][1], BusyReply)


@pytest.mark.parametrize(("size", "answer"), [(1000, None), (1001, TooLargeReply)])
def test_a_command_over_the_limit_is_refused_before_the_log(size: int, answer: type | None) -> None:
    rig = Rig(command_bytes_max=1000)
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"ok", bytes(size)))
    assert [type(given) for _, given in rig.answers(ANN)] == ([] if answer is None else [answer])
    assert rig.consensus.empty() == (answer is not None)


def test_a_frame_kind_that_clients_may_not_send_is_rejected() -> None:
    rig = Rig()
    rig.client_sends(ANN, FrameKind.REPLIES, commands(1, b"c"))
    assert isinstance(rig.answers(ANN)[0][1], RejectedReply)


def test_a_malformed_frame_goes_nowhere() -> None:
    rig = Rig()
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"command")[:-3])
    assert rig.consensus.empty()
    assert rig.answers(ANN) == []


def test_hello_is_answered_with_the_members_and_limits() -> None:
    rig = Rig(leader_id=0)
    rig.client_sends(ANN, FrameKind.HELLO, frames.encode_hello(1, "test"))
    ((to, kind, body),) = rig.endpoint.sent
    welcome = frames.decode_welcome(body)
    assert (to, kind) == (ANN, FrameKind.WELCOME)
    assert (welcome.node_id, welcome.cluster_id, welcome.members) == (1, 7, [(1, "127.0.0.1:2")])
    assert welcome.limits["command_bytes_max"] == Limits().command_bytes_max


def test_queries_go_to_a_read_round() -> None:
    rig = Rig()
    rig.client_sends(ANN, FrameKind.QUERIES, frames.encode_queries(2, level=Level.LINEARIZABLE, queries=[b"q"]))
    (message,) = rig.consensus.get().message.messages
    assert isinstance(message, Reads)


def test_an_operation_goes_to_the_actor_that_knows() -> None:
    rig = Rig(leader_id=0)
    rig.client_sends(ANN, FrameKind.ADMIN, frames.encode_admin(1, "status"))
    rig.client_sends(ANN, FrameKind.ADMIN, frames.encode_admin(2, "transfer_leader", [2]))
    rig.client_sends(ANN, FrameKind.ADMIN, frames.encode_admin(3, "state_digest"))
    assert rig.application.waiting() == 1
    (asked,) = rig.monitor.get().message.messages
    (ordered,) = rig.consensus.get().message.messages
    assert isinstance(asked, AdminRequest)
    assert isinstance(ordered, AdminRequest)
    assert ordered[1:] == ("transfer_leader", (2,))


@pytest.mark.parametrize(("busy", "answer"), [(False, RetryReply), (True, BusyReply)])
def test_what_consensus_refuses_is_said_to_the_client(busy: bool, answer: type) -> None:
    rig = Rig()
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"c"))
    rig.tell(Refused([frame.pending_id for frame in rig.proposed().frames], busy=busy))
    assert [type(given) for _, given in rig.answers(ANN)] == [answer]


def test_a_frame_that_nobody_answers_is_forgotten() -> None:
    rig = Rig(pending_frames_max=1)
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"c"))
    rig.proposed()
    for _ in range(PENDING_TICKS_MAX):
        rig.tell(Tick())
    rig.client_sends(BEN, FrameKind.COMMANDS, commands(2, b"c"))
    assert len(rig.proposed().frames) == 1


def test_draining_takes_nothing_new_and_ends_when_everything_is_answered() -> None:
    rig = Rig()
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"c"))
    (frame,) = rig.proposed().frames
    drained: list[bool] = []
    rig.tell(Drain(lambda: drained.append(True)))
    rig.client_sends(BEN, FrameKind.COMMANDS, commands(2, b"c"))
    assert isinstance(rig.answers(BEN)[0][1], RetryReply)
    assert drained == []
    rig.tell(Replies([(frame.pending_id, replies.encode_results(9, 1, 1, []))]))
    assert drained == [True]


def test_stopping_answers_what_waits_and_closes_the_socket() -> None:
    rig = Rig()
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"c"))
    rig.gateway.on_stop()
    assert isinstance(rig.answers(ANN)[0][1], RetryReply)
    assert rig.endpoint.closed


def test_one_connection_has_a_bounded_number_of_frames_under_way() -> None:
    rig = Rig(client_pending_frames_max=1)
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"c"))
    rig.proposed()
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(2, b"c"))
    assert [(request, type(answer)) for request, answer in rig.answers(ANN)] == [(2, BusyReply)]
    rig.client_sends(BEN, FrameKind.COMMANDS, commands(3, b"c"))
    assert len(rig.proposed().frames) == 1


def test_busy_is_said_before_a_frame_is_looked_into() -> None:
    rig = Rig(client_pending_frames_max=1)
    rig.client_sends(ANN, FrameKind.COMMANDS, commands(1, b"c"))
    rig.client_sends(ANN, FrameKind.QUERIES, (2).to_bytes(8, "little") + b"makes no sense")
    assert isinstance(rig.answers(ANN)[0][1], BusyReply)


def test_a_turn_takes_a_bounded_number_of_bytes() -> None:
    rig = Rig()
    body = memoryview(commands(1, bytes(100_000)))
    rig.endpoint.inbound = [(ANN, Envelope(3, 7, 1, 0, 0), body)] * 100
    rig.tell()
    frames_max = RECEIVE_BYTES_MAX // len(body) + RECEIVE_FRAMES_STEP
    assert 0 < len(rig.proposed().frames) <= frames_max < 100


def test_what_the_application_made_is_reported_as_taken() -> None:
    rig = Rig()
    rig.tell(Replies([], Limits().client_frame_bytes_max // 8))
    assert rig.application.empty()
    rig.tell(Replies([], Limits().client_frame_bytes_max // 8))
    assert rig.flow() == AnswersFlow(Limits().client_frame_bytes_max // 4)


def test_who_does_not_read_is_held_then_cut_and_forgotten() -> None:
    rig = Rig(client_stall_ms=500)
    rig.endpoint.body_bytes_max = Limits().client_frame_bytes_max
    for request in range(10):
        rig.client_sends(ANN, FrameKind.ADMIN, frames.encode_admin(request, "status"))
    asked = rig.monitor.get().message.messages
    rig.endpoint.unread[ANN] = 900_000
    rig.tell(Replies([(asked[0].pending_id, replies.encode_document(1, bytes(100_000)))]))
    assert rig.flow().held == {ANN}
    # What does not fit is dropped: the client asks again if it ever reads.
    rig.endpoint.unread[ANN] = 1_000_000
    sent = len(rig.endpoint.sent)
    rig.tell(Replies([(asked[1].pending_id, replies.encode_document(1, bytes(100_000)))]))
    assert len(rig.endpoint.sent) == sent
    drained: list[bool] = []
    rig.tell(Drain(lambda: drained.append(True)))
    for _ in range(10):
        assert rig.endpoint.cuts == []
        assert not drained
        rig.tell(Tick())
    assert rig.endpoint.cuts == [ANN]
    assert rig.flow().gone == {ANN}
    assert drained


def test_who_reads_again_gets_more_soon() -> None:
    rig = Rig()
    rig.client_sends(ANN, FrameKind.ADMIN, frames.encode_admin(1, "status"))
    (asked,) = rig.monitor.get().message.messages
    rig.endpoint.unread[ANN] = 900_000
    rig.endpoint.body_bytes_max = 200_000
    rig.tell(Replies([(asked.pending_id, replies.encode_document(1, bytes(100_000)))]))
    assert rig.flow().held == {ANN}
    rig.endpoint.unread[ANN] = 800_000
    rig.clock_s += LOOK_S
    rig.tell()
    assert rig.gateway.mailbox.idle_timeout_s == LOOK_S
    rig.endpoint.unread[ANN] = 0
    rig.clock_s += LOOK_S
    rig.tell()
    assert rig.flow().released == {ANN}
    rig.tell()
    assert rig.gateway.mailbox.idle_timeout_s is None
