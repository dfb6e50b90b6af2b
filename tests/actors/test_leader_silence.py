"""The longest silence of a leader, as its follower counts it."""

from __future__ import annotations

import logging
import random

from raftactors.actors.leader_silence import LeaderSilence
from raftactors.core.config import RaftConfig
from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import ConfState, Snapshot


def follower() -> RawNode:
    """Node 1 of three, which has heard of no leader yet."""
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(1, 1, ConfState((1, 2, 3))))
    return RawNode(
        RaftConfig(
            node_id=1,
            election_ticks=10,
            heartbeat_ticks=1,
            storage=storage,
            random=random.Random(1),
            logger=logging.getLogger("test"),
        )
    )


def test_the_longest_silence_of_the_present_leader_counts() -> None:
    raft = follower()
    silence = LeaderSilence(raft)

    def pass_ticks(count: int) -> int:
        for _ in range(count):
            raft.tick()
            silence.tick()
        return silence.ticks_max

    def hear(leader: int, term: int) -> None:
        raft.step(Message(MessageType.HEARTBEAT, 1, leader, term))

    assert pass_ticks(3) == 0, "nobody leads yet"
    hear(2, term=2)
    pass_ticks(1)
    for ticks, longest in [(2, 2), (5, 5), (1, 5)]:
        hear(2, term=2)
        assert pass_ticks(ticks) == longest
    hear(3, term=3)
    assert pass_ticks(1) == 0, "another leader begins anew"
    hear(3, term=3)
    assert pass_ticks(4) == 4
    raft.campaign()
    assert pass_ticks(1) == 0, "a candidate has no leader"
