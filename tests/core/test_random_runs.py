"""Seeded runs: chaos in the network and on the disks, hostile messages; safety holds and the cluster heals.

Source of what is checked: Raft paper Figure 3.
"""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from raftactors.core.invariants import check_invariants_fully
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import (
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
    Role,
    Snapshot,
)
from raftactors.errors import ProposalDropped, StepLocalMessageError, StepPeerNotFoundError
from tests.core.network import Network, base_storage

STEPS = 2500
HOSTILE_STEPS = 400
LOCAL_KINDS = {
    MessageType.STORAGE_APPEND,
    MessageType.STORAGE_APPEND_RESP,
    MessageType.STORAGE_APPLY,
    MessageType.STORAGE_APPLY_RESP,
}


class Chaos:
    """A network whose next event is drawn from a seed, and what has been seen of it so far."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        rng = self.rng
        self.network = Network(
            (1, 2, 3),
            (4,) if rng.random() < 0.5 else (),
            async_storage_writes=rng.random() < 0.6,
            pre_vote=rng.random() < 0.5,
            check_quorum=rng.random() < 0.5,
            bytes_per_message_max=rng.choice((0, 40, 2**64 - 1)),
            inflight_messages_max=rng.choice((1, 3, 256)),
            committed_bytes_per_ready_max=rng.choice((0, 30)),
            step_down_on_removal=rng.random() < 0.5,
        )
        self.leaders: dict[int, int] = {}
        self.history: dict[int, Entry] = {}
        self.proposed = 0

    def step(self) -> None:
        rng, network = self.rng, self.network
        node_id = rng.choice(tuple(network.members))
        member = network.members[node_id]
        event = rng.random()
        if event < 0.45:
            self.travel()
        elif event < 0.80:
            network.handle_ready(node_id)
        elif event < 0.88:
            member.raw.tick()
        elif event < 0.95:
            self.propose(node_id)
        else:
            self.disturb(node_id)
        self.observe()

    def disturb(self, node_id: int) -> None:
        """What happens now and then."""
        rng, network = self.rng, self.network
        raw = network[node_id]
        event = rng.randrange(12)
        if event < 3:
            self.snapshot(node_id)
        elif event < 6:
            raw.read_index(b"%d" % rng.randrange(1000))
        elif event == 6:
            raw.transfer_leader(rng.choice(tuple(network.members)))
        elif event == 7:
            raw.report_unreachable(rng.choice(tuple(network.members)))
        elif event == 8:
            raw.campaign()
        elif event < 11:
            # A disk that stands still is likely to go on soon.
            network.stalled = {node_id} if not network.stalled else set()
        else:
            network.stalled.discard(node_id)
            network.restart(node_id)

    def travel(self) -> None:
        """Deliver, lose, double or reorder a message."""
        in_flight = self.network.in_flight
        if not in_flight:
            return
        in_flight.rotate(-self.rng.randrange(len(in_flight)))
        message = in_flight.popleft()
        fate = self.rng.random()
        if fate < 0.1:
            return
        if fate < 0.2:
            in_flight.append(message)
        self.network.deliver(message)

    def propose(self, node_id: int) -> None:
        raw = self.network[node_id]
        try:
            if self.rng.random() < 0.1:
                kinds = (ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER, ConfChangeType.REMOVE_NODE)
                steps = tuple(
                    ConfChangeSingle(self.rng.choice(kinds), self.rng.randrange(1, 5))
                    for _ in range(self.rng.randrange(3))
                )
                raw.propose_conf_change(ConfChangeV2(steps))
            else:
                self.proposed += 1
                raw.propose(b"%d" % self.proposed)
        except ProposalDropped:
            return

    def snapshot(self, node_id: int) -> None:
        member = self.network.members[node_id]
        log = member.raft.log
        if not self.network.asynchronous and log.applied > member.storage.snapshot().index:
            member.storage.create_snapshot(log.applied, member.conf_state, b"")
            member.storage.compact(log.applied)

    def observe(self) -> None:
        """Election safety, log matching of what is committed, and state-machine safety."""
        for node_id, member in self.network.members.items():
            raft = member.raft
            check_invariants_fully(raft)
            if raft.role is Role.LEADER:
                assert self.leaders.setdefault(raft.term, node_id) == node_id, "two leaders in one term"
            for entry in member.applied:
                assert self.history.setdefault(entry.index, entry) == entry, "two entries applied at one index"
            member.applied.clear()


@pytest.mark.parametrize("seed", range(12))
def test_safety_under_chaos(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(STEPS):
        chaos.step()
    # A run in which nothing happens shows nothing.
    assert chaos.leaders
    assert chaos.history


@pytest.mark.parametrize("seed", range(10))
def test_a_cluster_heals_when_the_chaos_ends(seed: int) -> None:
    rng = random.Random(seed)
    network = Network(pre_vote=True, check_quorum=True, async_storage_writes=seed % 2 == 0)
    for _ in range(60):
        network.cut = {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if rng.random() < 0.4}
        node_id = rng.choice((1, 2, 3))
        if rng.random() < 0.2:
            network.restart(node_id)
        with suppress(ProposalDropped):
            network[node_id].propose(b"x")
        network.tick(rng.randrange(8))
    network.heal()
    network.tick(60)
    network.propose(network.leader(), b"last")
    network.tick(2)
    assert {member.commands()[-1] for member in network.members.values()} == {b"last"}
    assert len({member.raft.log.committed for member in network.members.values()}) == 1


def _hostile_message(rng: random.Random, to: int, term: int) -> Message:
    """A message that passes the gate's checks on single fields, and makes no sense otherwise."""
    kind = rng.choice([kind for kind in MessageType if kind not in LOCAL_KINDS])
    index, log_term = rng.randrange(12), rng.randrange(6)
    entries: tuple[Entry, ...] = ()
    if kind in (MessageType.PROP, MessageType.READ_INDEX, MessageType.READ_INDEX_RESP):
        types = tuple(EntryType)
        entries = tuple(
            Entry(0, 0, rng.choice((None, b"", b"x", b"\xff")), rng.choice(types)) for _ in range(rng.randrange(3))
        )
    elif kind is MessageType.APP:
        log_term = rng.randrange(term + 1)
        terms = sorted(rng.randrange(log_term, term + 1) for _ in range(rng.randrange(4)))
        entries = tuple(Entry(each, index + 1 + position, b"h") for position, each in enumerate(terms))
    snapshot = None
    if kind is MessageType.SNAP:
        conf = base_storage(tuple(rng.sample(range(5), 2)), tuple(rng.sample(range(5), 1))).snapshot().conf_state
        snapshot = Snapshot(rng.randrange(20), rng.randrange(6), conf)
    return Message(
        kind,
        to,
        rng.randrange(6),
        term + rng.choice((-1, 0, 0, 0, 1)),
        log_term,
        index,
        entries,
        rng.randrange(20),
        0,
        snapshot,
        rng.random() < 0.3,
        rng.randrange(20),
        rng.choice((b"", b"CampaignTransfer", b"r")),
    )


@pytest.mark.parametrize("seed", range(30))
def test_hostile_messages_stop_no_node(seed: int) -> None:
    rng = random.Random(seed)
    network = Network(pre_vote=seed % 2 == 0, check_quorum=seed % 3 == 0, async_storage_writes=seed % 5 == 0)
    network.peers_are_honest = False
    if seed % 4:
        network.elect(1)
    for _ in range(HOSTILE_STEPS):
        to = rng.randrange(1, 4)
        raft = network[to].raft
        with suppress(ProposalDropped, StepLocalMessageError, StepPeerNotFoundError):
            network[to].step(_hostile_message(rng, to, raft.term))
        if rng.random() < 0.2:
            network[to].tick()
        network.handle_ready(to)
        network.in_flight.clear()
        check_invariants_fully(raft, peers_are_honest=False)
