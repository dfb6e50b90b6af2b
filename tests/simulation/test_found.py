"""What the simulator found, each as small as it gets, so that it stays found."""

from __future__ import annotations

from pathlib import Path
from random import Random

from raftactors.core.config import RaftConfig
from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import APPEND_THREAD, ConfState, Entry, HardState, Role, Snapshot
from raftactors.storage import MemoryFiles, OpenedStorage, WalBatch, open_data_dir
from raftactors.testing.simulation.memory_log import SILENCE
from raftactors.testing.simulation.process import hold_vote_requests

FOLDER = Path("/node")


def opened(files: MemoryFiles) -> OpenedStorage:
    """Open the folder as a node does."""
    return open_data_dir(FOLDER, cluster_id=1, node_id=1, segment_bytes=16_384, files=files, random_bytes=bytes)


def test_a_log_whose_last_batch_holds_a_snapshot_over_its_own_entries_opens_again_and_again() -> None:
    """Seed 1565: the last batch is written again at each start, but its entries no longer fit behind its snapshot."""
    files = MemoryFiles()
    storage = opened(files)
    storage.wal.append([WalBatch(HardState(1, 1, 0), [Entry(1, index, b"x") for index in range(1, 6)])])
    snapshot = Snapshot(7, 1, ConfState(voters=(1,)))
    behind = [Entry(1, 8, b"y")]
    storage.wal.append(
        [WalBatch(None, [Entry(1, 6, b"x"), Entry(1, 7, b"x")]), WalBatch(HardState(1, 1, 7), behind, snapshot)]
    )
    storage.close()

    for _ in range(3):
        storage = opened(files)
        assert (storage.snapshot.index, storage.entries) == (7, behind)
        assert storage.hard_state == HardState(1, 1, 7)
        storage.close()


def candidate() -> tuple[RawNode, tuple[Message, ...]]:
    """Node 1 of three, which has just asked for votes in term 2, and what it hands out."""
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(1, 1, ConfState(voters=(1, 2, 3))))
    storage.set_hard_state(HardState(1, 0, 1))
    raw = RawNode(
        RaftConfig(
            node_id=1,
            election_ticks=10,
            heartbeat_ticks=1,
            storage=storage,
            random=Random(1),
            logger=SILENCE,
            async_storage_writes=True,
        )
    )
    raw.campaign()
    return raw, raw.ready().messages


def test_the_votes_of_the_others_elect_a_node_whose_disk_does_not_know_the_term() -> None:
    """Seed 10213, the danger: it could lose the term in a crash, win it again, and use its indexes twice."""
    raw, _ = candidate()
    for voter in (2, 3):
        raw.step(Message(MessageType.VOTE_RESP, to=1, sender=voter, term=2))
    assert raw.raft.role is Role.LEADER


def test_requests_for_votes_wait_until_the_term_is_durable() -> None:
    """Seed 10213, the remedy: they leave as responses of the write that holds term and vote."""
    _, messages = candidate()
    assert sum(message.type is MessageType.VOTE for message in messages) == 2

    (write,) = hold_vote_requests(messages)

    assert write.to == APPEND_THREAD
    assert (write.term, write.vote) == (2, 1)
    assert [response.to for response in write.responses if response.type is MessageType.VOTE] == [2, 3]
