"""The consensus actor: what one mailbox batch becomes, and in which order its effects go out."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest

from raftactors.actors.consensus import Consensus, Neighbours
from raftactors.actors.mailbox import Batch, Mailbox
from raftactors.actors.messages import (
    AdminRequest,
    AppendsDone,
    AppendWork,
    AppliesDone,
    ApplyWork,
    ClientFrame,
    Drain,
    LeaderChanged,
    Outbound,
    PeerMessages,
    Proposals,
    RaftReport,
    Reads,
    ReadsReady,
    Refused,
    Replies,
    Tick,
)
from raftactors.codec import replies
from raftactors.codec.batch import decode_batch, encode_batch
from raftactors.config import Limits, Member, NodeConfig
from raftactors.core.config import RaftConfig
from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import Entry, Role
from raftactors.errors import ExitCode

NOW_MS = 1_700_000_000_000


class Rig:
    """A consensus actor of a cluster of `size`, its neighbours being bare mailboxes."""

    def __init__(self, size: int = 1, **limits: int) -> None:
        members = tuple(
            Member(node_id=n, peer_address=f"127.0.0.1:{n}", client_address=f"127.0.0.1:{n + 10}")
            for n in range(1, size + 1)
        )
        config = NodeConfig(cluster_id=7, node_id=1, data_dir=Path("x"), members=members, limits=Limits(**limits))
        log = MemoryStorage()
        raft = RawNode(
            RaftConfig(
                node_id=1,
                election_ticks=10,
                heartbeat_ticks=1,
                storage=log,
                async_storage_writes=True,
                uncommitted_bytes_max=config.limits.uncommitted_bytes_max,
                random=random.Random(1),
                logger=logging.getLogger("test"),
            )
        )
        raft.bootstrap(range(1, size + 1))
        self.boxes = Neighbours(*(Mailbox(name, messages_max=100) for name in Neighbours._fields))
        self.actor = Consensus(
            Mailbox("consensus", messages_max=100),
            config=config,
            incarnation=4,
            raft=raft,
            log=log,
            neighbours=self.boxes,
            wall_clock_ns=lambda: NOW_MS * 1_000_000,
        )

    def tell(self, *messages: object) -> None:
        self.actor.on_receive(Batch(list(messages)))

    @staticmethod
    def took(box: Mailbox) -> list[object]:
        return [] if box.empty() else list(box.get().message.messages)

    def work(self) -> list[AppendWork | ApplyWork]:
        """Do the disk's and the application's part until nothing is left; returns what was done."""
        done: list[AppendWork | ApplyWork] = []
        while True:
            appends = [m for m in self.took(self.boxes.storage) if isinstance(m, AppendWork)]
            applies = [m for m in self.took(self.boxes.application) if isinstance(m, ApplyWork)]
            if not appends and not applies:
                return done
            done += [*appends, *applies]
            self.tell(AppendsDone([w.message for w in appends]), AppliesDone([w.message for w in applies]))

    def lead(self) -> None:
        for _ in range(25):
            self.tell(Tick())
            self.work()
        self.took(self.boxes.gateway)


def frame(pending_id: int) -> ClientFrame:
    return ClientFrame(pending_id, b"\x03" + b"payload")


def of(kind: type, messages: list[object]) -> list[object]:
    return [message for message in messages if isinstance(message, kind)]


def test_a_single_node_leads_and_says_so() -> None:
    rig = Rig()
    for _ in range(25):
        rig.tell(Tick())
        rig.work()
    assert LeaderChanged(1, rig.actor._raft.raft.term) in rig.took(rig.boxes.gateway)
    report = of(RaftReport, rig.took(rig.boxes.monitor))[-1]
    assert isinstance(report, RaftReport)
    assert (report.role, report.leader_id) == ("leader", 1)


def test_the_frames_of_one_batch_become_one_entry() -> None:
    rig = Rig()
    rig.lead()
    rig.tell(Proposals([frame(1), frame(2)]), Proposals([frame(3)]))
    (work,) = rig.took(rig.boxes.storage)
    assert isinstance(work, AppendWork)
    (entry,) = work.message.entries
    assert entry.data is not None
    batch = decode_batch(entry.data)
    assert [pending_id for pending_id, _, _ in batch.frames] == [1, 2, 3]
    assert (batch.origin_node, batch.origin_incarnation, batch.timestamp_ms) == (1, 4, NOW_MS)


def test_even_a_single_node_applies_only_what_its_disk_has_acknowledged() -> None:
    rig = Rig()
    rig.lead()
    rig.tell(Proposals([frame(1)]))
    rig.tell(Tick())
    assert of(ApplyWork, rig.took(rig.boxes.application)) == []
    (work,) = of(AppendWork, rig.took(rig.boxes.storage))
    assert isinstance(work, AppendWork)
    rig.tell(AppendsDone([work.message]))
    (apply,) = of(ApplyWork, rig.took(rig.boxes.application))
    assert isinstance(apply, ApplyWork)
    assert apply.message.entries == work.message.entries


def test_proposals_without_a_leader_are_refused() -> None:
    rig = Rig(size=3)
    rig.work()
    rig.tell(Proposals([frame(8), frame(9)]))
    assert of(Refused, rig.took(rig.boxes.gateway)) == [Refused([8, 9], busy=False)]


def test_a_leader_with_too_much_uncommitted_says_busy() -> None:
    rig = Rig(uncommitted_bytes_max=10)
    rig.lead()
    rig.tell(Proposals([frame(1)]))
    rig.tell(Proposals([frame(2)]))
    assert of(Refused, rig.took(rig.boxes.gateway)) == [Refused([2], busy=True)]


def test_the_queries_of_one_batch_share_a_read_round() -> None:
    rig = Rig()
    rig.lead()
    rig.tell(Reads([frame(1)]), Reads([frame(2)]))
    (ready,) = of(ReadsReady, rig.took(rig.boxes.application))
    assert isinstance(ready, ReadsReady)
    assert [f.pending_id for f in ready.frames] == [1, 2]
    assert ready.read_index == rig.actor._raft.raft.log.committed


def test_a_read_round_that_nobody_confirms_is_given_up() -> None:
    rig = Rig(size=3)
    rig.work()
    rig.tell(Reads([frame(5)]))
    for _ in range(12):
        rig.tell(Tick())
    assert of(Refused, rig.took(rig.boxes.gateway)) == [Refused([5], busy=False)]


def test_a_leader_puts_its_own_clock_on_forwarded_commands() -> None:
    rig = Rig(size=3)
    make_leader(rig)
    payload = encode_batch([(1, b"\x03x")], origin_node=2, origin_incarnation=1, timestamp_ms=5)
    rig.tell(PeerMessages([Message(MessageType.PROP, to=1, sender=2, entries=(Entry(0, 0, payload),))]))
    (work,) = of(AppendWork, rig.took(rig.boxes.storage))
    assert isinstance(work, AppendWork)
    (entry,) = work.message.entries
    assert entry.data is not None
    assert decode_batch(entry.data).timestamp_ms == NOW_MS
    assert decode_batch(entry.data).origin_node == 2


def test_messages_that_no_honest_peer_sends_are_left_out_and_the_rest_is_handled() -> None:
    rig = Rig(size=3)
    rig.work()
    hup = Message(MessageType.HUP, to=1, sender=2)
    heartbeat = Message(MessageType.HEARTBEAT, to=1, sender=2, term=9)
    rig.tell(PeerMessages([hup, heartbeat]))
    assert rig.actor._raft.raft.leader_id == 2


def test_a_node_whose_leader_remembers_more_than_it_holds_stops(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise SystemExit

    monkeypatch.setattr("os._exit", end)
    rig = Rig(size=3)
    rig.work()
    last = rig.actor._raft.raft.log.last_index()
    of_the_past = Message(MessageType.HEARTBEAT, to=1, sender=3, term=8, commit=last + 1)
    rig.tell(PeerMessages([Message(MessageType.HEARTBEAT, to=1, sender=2, term=9, commit=last), of_the_past]))
    assert rig.actor._raft.raft.leader_id == 2
    with pytest.raises(SystemExit):
        rig.tell(PeerMessages([Message(MessageType.HEARTBEAT, to=1, sender=2, term=9, commit=last + 1)]))
    assert codes == [ExitCode.DATA_LOST]
    assert f"has acknowledged entry {last + 1} to it, but its log ends at {last}" in capfd.readouterr().err


def test_admin_requests_are_answered() -> None:
    rig = Rig()
    rig.lead()
    rig.tell(AdminRequest(1, "transfer_leader", (9,)), AdminRequest(2, "explode", ()))
    answers = [replies.decode_reply(body) for m in of(Replies, rig.took(rig.boxes.gateway)) for _, body in m.replies]  # type: ignore[attr-defined]
    assert [type(answer) for answer in answers] == [replies.RejectedReply, replies.RejectedReply]


def test_a_draining_leader_hands_over_to_the_voter_with_most_of_the_log() -> None:
    rig = Rig(size=3)
    make_leader(rig)
    last = rig.actor._raft.raft.log.last_index()
    term = rig.actor._raft.raft.term
    rig.tell(PeerMessages([Message(MessageType.APP_RESP, to=1, sender=3, term=term, index=last)]))
    rig.took(rig.boxes.transport)
    drained: list[bool] = []
    rig.tell(Drain(lambda: drained.append(True)))
    sent = [m for out in of(Outbound, rig.took(rig.boxes.transport)) for m in out.messages]  # type: ignore[attr-defined]
    assert [(m.type, m.to) for m in sent if m.type == MessageType.TIMEOUT_NOW] == [(MessageType.TIMEOUT_NOW, 3)]
    assert drained == []
    rig.tell(PeerMessages([Message(MessageType.APP, to=1, sender=3, term=term + 1, log_term=term, index=last)]))
    assert drained == [True]


def test_a_draining_follower_is_done_at_once() -> None:
    rig = Rig(size=3)
    drained: list[bool] = []
    rig.tell(Drain(lambda: drained.append(True)))
    assert drained == [True]


def campaign(rig: Rig) -> Message:
    """Let node 1 of three campaign, the disk being quick; returns its vote request to node 2."""
    rig.work()
    for _ in range(40):
        rig.tell(Tick())
        done = rig.work()
        released = [m for w in done if isinstance(w, AppendWork) for m in w.message.responses]
        for message in released:
            if message.type == MessageType.VOTE and message.to == 2:
                return message
    raise AssertionError("node 1 never campaigned")


def make_leader(rig: Rig) -> None:
    """Elect node 1 of three with the vote of node 2."""
    request = campaign(rig)
    rig.tell(PeerMessages([Message(MessageType.VOTE_RESP, to=1, sender=2, term=request.term)]))
    rig.work()
    rig.took(rig.boxes.transport)
    rig.took(rig.boxes.gateway)


def test_a_vote_request_leaves_only_behind_the_sync_of_its_term() -> None:
    rig = Rig(size=3)
    request = campaign(rig)
    assert request.term == rig.actor._raft.raft.term
    sent = [m for out in of(Outbound, rig.took(rig.boxes.transport)) for m in out.messages]  # type: ignore[attr-defined]
    assert [m for m in sent if m.type == MessageType.VOTE] == []


def test_an_answer_at_a_term_that_is_not_durable_waits_even_without_work_for_the_disk() -> None:
    rig = Rig(size=3)
    rig.work()
    rig.tell(PeerMessages([Message(MessageType.HEARTBEAT, to=1, sender=2, term=9)]))
    (first,) = of(AppendWork, rig.took(rig.boxes.storage))
    rig.tell(PeerMessages([Message(MessageType.HEARTBEAT, to=1, sender=2, term=9, context=b"read")]))
    (second,) = of(AppendWork, rig.took(rig.boxes.storage))
    assert isinstance(first, AppendWork)
    assert isinstance(second, AppendWork)
    assert [m.type for m in second.message.responses] == [MessageType.HEARTBEAT_RESP]
    assert of(Outbound, rig.took(rig.boxes.transport)) == []
    rig.tell(AppendsDone([first.message]))
    rig.tell(PeerMessages([Message(MessageType.HEARTBEAT, to=1, sender=2, term=9)]))
    assert len(of(Outbound, rig.took(rig.boxes.transport))) == 1


def test_a_single_node_answers_no_query_before_it_has_committed_in_its_term() -> None:
    rig = Rig()
    rig.tell(Tick())
    rig.work()
    for _ in range(60):
        if rig.actor._raft.raft.role is Role.LEADER:
            break
        rig.tell(Tick())
        appends = of(AppendWork, rig.took(rig.boxes.storage))
        rig.tell(AppendsDone([work.message for work in appends if isinstance(work, AppendWork)]))
    rig.tell(Reads([frame(1)]))
    assert of(ReadsReady, rig.took(rig.boxes.application)) == []
    appends = of(AppendWork, rig.took(rig.boxes.storage))
    rig.tell(AppendsDone([work.message for work in appends if isinstance(work, AppendWork)]))
    assert [ready for ready in rig.took(rig.boxes.application) if isinstance(ready, ReadsReady)] != []
