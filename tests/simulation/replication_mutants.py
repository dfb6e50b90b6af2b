"""Bugs of the log: appending, matching, committing, membership."""

from __future__ import annotations

from collections.abc import Sequence

from pytest import MonkeyPatch

from raftactors.core import follower, leader, replication
from raftactors.core import tracker as tracker_module
from raftactors.core.confchange import Changer, _Draft
from raftactors.core.confchange_wire import decode_conf_change
from raftactors.core.log import RaftLog
from raftactors.core.messages import Message, MessageType
from raftactors.core.quorum import majority_value
from raftactors.core.raft import Raft
from raftactors.core.storage import MemoryStorage
from raftactors.core.tracker import Tracker
from raftactors.core.types import ConfState, Entry, EntryType
from raftactors.errors import ConfChangeError
from tests.simulation.mutant import CaughtBy, mutant


@mutant("entries of earlier terms are committed by counting copies (LogCabin #44, Raft paper Figure 8)")
def commit_of_older_term(patch: MonkeyPatch) -> None:
    def commit(self: Raft) -> bool:
        index = self.tracker.committed_index()
        if index <= self.log.committed:
            return False
        self.log.commit_to(index)
        return True

    patch.setattr(Raft, "maybe_commit", commit)


@mutant("every append cuts the log behind its last entry (PySyncObj)")
def truncate_on_append(patch: MonkeyPatch) -> None:
    def first(self: RaftLog, entries: Sequence[Entry]) -> int:
        return min(max(0, self.committed + 1 - entries[0].index), len(entries)) if entries else 0

    patch.setattr(RaftLog, "first_conflict", first)


@mutant("a conflicting suffix stays where it is")
def conflict_not_truncated(patch: MonkeyPatch) -> None:
    def first(self: RaftLog, entries: Sequence[Entry]) -> int:
        return sum(1 for entry in entries if entry.index <= self.last_index())

    patch.setattr(RaftLog, "first_conflict", first)


@mutant("an append follows any entry of the right index, whatever its term")
def match_by_index(patch: MonkeyPatch) -> None:
    patch.setattr(RaftLog, "matches", lambda self, term, index: self.try_term(index) is not None)


@mutant("a follower acknowledges the end of its log instead of the end of what it was sent", caught_by=CaughtBy.TRACES)
def acknowledge_last_index(patch: MonkeyPatch) -> None:
    right = follower._respond

    def respond(raft: Raft, message: Message, index: int) -> None:
        right(raft, message, max(index, raft.log.last_index()) if index else index)

    patch.setattr(follower, "_respond", respond)


@mutant("a follower acknowledges before its own disk has the entries (YugabyteDB #32875)")
def acknowledge_before_disk(patch: MonkeyPatch) -> None:
    def respond(raft: Raft, message: Message, index: int) -> None:
        raft.messages.append(Message(MessageType.APP_RESP, message.sender, raft.node_id, raft.term, index=index))

    patch.setattr(follower, "_respond", respond)


@mutant("a leader counts itself before its own disk has the entries (etcd #14370)")
def leader_acknowledges_itself(patch: MonkeyPatch) -> None:
    right = Raft.append_entries

    def append(self: Raft, entries: tuple[Entry, ...]) -> bool:
        appended = right(self, entries)
        if appended:
            self.tracker.progress[self.node_id].advance_match(self.log.last_index())
            self.maybe_commit()
        return appended

    patch.setattr(Raft, "append_entries", append)


@mutant("a follower takes the leader's commit index over for entries that it did not get from it")
def commit_beyond_append(patch: MonkeyPatch) -> None:
    # The only uses of `min` there bound the commit index, and the index of a rejection by the end of the own log.
    patch.setattr(follower, "min", lambda told, bound: told, raising=False)


@mutant("heartbeats name a commit index that the member may not match")
def heartbeat_commit_unlimited(patch: MonkeyPatch) -> None:
    right = replication.broadcast_heartbeat

    def broadcast(raft: Raft, context: bytes) -> None:
        known = len(raft.messages)
        right(raft, context)
        raft.messages[known:] = [message._replace(commit=raft.log.committed) for message in raft.messages[known:]]

    patch.setattr(replication, "broadcast_heartbeat", broadcast)


@mutant(
    "what a leader knew of its followers in an earlier term still counts (openraft #1802)", caught_by=CaughtBy.TRACES
)
def progress_survives_terms(patch: MonkeyPatch) -> None:
    right = Tracker.restart_progress

    def restart(self: Tracker, node_id: int, last_index: int) -> None:
        matches = {member: progress.match for member, progress in self.progress.items()}
        right(self, node_id, last_index)
        for member, progress in self.progress.items():
            progress.match = min(max(progress.match, matches[member]), last_index)

    patch.setattr(Tracker, "restart_progress", restart)


@mutant("half of an even number of voters commits")
def commit_by_half(patch: MonkeyPatch) -> None:
    def majority(values: list[int]) -> int:
        return sorted(values)[len(values) // 2] if values else majority_value(values)

    patch.setattr(tracker_module, "majority_value", majority)


@mutant("learners count for the commit")
def learners_counted(patch: MonkeyPatch) -> None:
    def committed(self: Tracker) -> int:
        conf = self.conf_state()
        return majority_value([self.progress[node_id].match for node_id in (*conf.voters, *conf.learners)])

    patch.setattr(Tracker, "committed_index", committed)


@mutant("in a joint membership the new half alone commits (thesis 4.3)")
def joint_commit_by_one_half(patch: MonkeyPatch) -> None:
    def committed(self: Tracker) -> int:
        return majority_value([self.progress[voter].match for voter in self.conf_state().voters])

    patch.setattr(Tracker, "committed_index", committed)


@mutant("a node that was removed is still counted")
def removed_node_counted(patch: MonkeyPatch) -> None:
    right = Changer._remove

    def remove(self: Changer, draft: _Draft, node_id: int) -> None:
        if node_id not in draft.voters:
            right(self, draft, node_id)

    patch.setattr(Changer, "_remove", remove)


@mutant("the leader takes a membership change over when it appends it, the others when they apply it")
def change_applied_at_append(patch: MonkeyPatch) -> None:
    right = Raft.append_entries

    def append(self: Raft, entries: tuple[Entry, ...]) -> bool:
        appended = right(self, entries)
        for entry in entries if appended else ():
            if entry.type is not EntryType.NORMAL:
                try:
                    self.apply_conf_change(decode_conf_change(entry))
                except ConfChangeError:
                    continue
        return appended

    patch.setattr(Raft, "append_entries", append)


@mutant(
    "a leader takes a second membership change on before the first is applied (thesis 4.1)", caught_by=CaughtBy.TRACES
)
def two_changes_at_once(patch: MonkeyPatch) -> None:
    patch.setattr(leader, "_screen", lambda raft, entry, position: entry)


@mutant("entries are handed to the application before they are committed")
def apply_before_commit(patch: MonkeyPatch) -> None:
    patch.setattr(RaftLog, "has_next_committed", lambda self, allow_unstable: self.applying < self.unstable.offset - 1)
    patch.setattr(RaftLog, "_appliable_index", lambda self, allow_unstable: self.unstable.offset - 1)


@mutant("a received snapshot changes the log and not the membership")
def snapshot_without_membership(patch: MonkeyPatch) -> None:
    right = MemoryStorage.create_snapshot

    def create(self: MemoryStorage, index: int, conf_state: ConfState, data: bytes) -> object:
        members = tuple(sorted({*conf_state.voters, *conf_state.learners}))
        return right(self, index, ConfState(voters=members), data)

    patch.setattr(MemoryStorage, "create_snapshot", create)


@mutant("a node with committed membership changes to apply campaigns in the old membership", caught_by=CaughtBy.TRACES)
def campaign_before_change_applied(patch: MonkeyPatch) -> None:
    patch.setattr(RaftLog, "has_unapplied_conf_change", lambda self: False)
