"""What must always hold. A violated invariant means that the program is wrong, and stops the process.

`check_invariants` is cheap and runs after every input, in production too; `check_invariants_fully` walks through
the whole state and is for tests. Together they hold what one node can see of Raft's safety (Raft paper Figures 2
and 3): term, vote, commit and applied index never regress; a leader commits only entries of its own term that a
quorum holds, itself counted when they are on their way to its disk; the log has no gap, and terms never fall along
it; nothing promised leaves before it is durable. What takes two nodes to see is for the simulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftactors.core.messages import MessageType
from raftactors.core.progress import ProgressState
from raftactors.core.types import NONE, Role
from raftactors.errors import InvariantViolation

if TYPE_CHECKING:
    from raftactors.core.log import RaftLog
    from raftactors.core.progress import Progress
    from raftactors.core.raft import Raft

_PROMISES = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE_RESP,
        MessageType.PRE_VOTE_RESP,
    }
)
"""Kinds that speak of what is durable here, so they wait for the disk."""


def invariant(condition: object, text: str, *args: object) -> None:
    """Raise InvariantViolation with `text % args` unless `condition` is true."""
    if not condition:
        raise InvariantViolation(text % args if args else text)


class Witness:
    """What the last check saw, to compare the present with. `leader_id`: who was first known to lead `term`."""

    __slots__ = ("applied", "committed", "leader_id", "term", "vote")

    def __init__(self) -> None:
        self.term = 0
        self.vote = NONE
        self.leader_id = NONE
        self.committed = 0
        self.applied = 0


def check_invariants(raft: Raft) -> None:
    """Check what can be checked in constant time; a leader that raised its commit index counts the quorum again.

    This runs after every message and every tick: plain comparisons, and calls only where something has changed.
    """
    log = raft.log
    applied, applying, committed = log.applied, log.applying, log.committed
    unstable = log.unstable
    if not applied <= applying <= committed < unstable.offset + len(unstable.entries):
        raise InvariantViolation(
            f"applied {applied}, applying {applying}, committed {committed}, "
            f"last {unstable.offset + len(unstable.entries) - 1} are out of order"
        )
    if not applying < unstable.offset_in_progress >= unstable.offset:
        raise InvariantViolation(
            f"applying {applying}, entries from {unstable.offset} on unstable, "
            f"from {unstable.offset_in_progress} on not handed out for writing are out of order"
        )
    witness = raft.witness
    if raft.term != witness.term or raft.vote != witness.vote or raft.leader_id != witness.leader_id:
        _check_term(raft, witness)
    if committed != witness.committed:
        if committed < witness.committed:
            raise InvariantViolation(f"the commit index falls from {witness.committed} to {committed}")
        witness.committed = committed
        if raft.role is Role.LEADER:
            _check_commit(raft, committed)
    if applied < witness.applied:
        raise InvariantViolation(f"the applied index falls from {witness.applied} to {applied}")
    witness.applied = applied
    if raft.role is Role.LEADER:
        if raft.leader_id != raft.node_id or raft.vote != raft.node_id:
            raise InvariantViolation(
                f"the leader of term {raft.term} names node {raft.leader_id} and voted for {raft.vote}"
            )
    elif raft.transferee_id != NONE:
        raise InvariantViolation(f"a {raft.role.value} has a leadership transfer under way")


def _check_term(raft: Raft, witness: Witness) -> None:
    """The term never falls, and a vote that was given in it is never taken back nor given again."""
    if raft.term != witness.term:
        invariant(raft.term > witness.term, "the term falls from %d to %d", witness.term, raft.term)
        witness.term = raft.term
        witness.leader_id = NONE
    else:
        invariant(
            witness.vote in (NONE, raft.vote),
            "the vote of term %d changes from %d to %d",
            raft.term,
            witness.vote,
            raft.vote,
        )
    witness.vote = raft.vote
    if witness.leader_id == NONE:
        witness.leader_id = raft.leader_id


def _check_commit(raft: Raft, index: int) -> None:
    """A leader commits what a quorum holds, by an entry of its own term (Raft paper section 5.4.2)."""
    if not raft.log.matches(raft.term, index):
        raise InvariantViolation(f"entry {index} is committed, but not of term {raft.term}")
    conf = raft.tracker.conf_state()
    outgoing = conf.voters_outgoing
    if not (_held_by_majority(raft, conf.voters, index) and (not outgoing or _held_by_majority(raft, outgoing, index))):
        raise InvariantViolation(f"entry {index} is committed without a quorum of {conf}")


def _held_by_majority(raft: Raft, voters: tuple[int, ...], index: int) -> bool:
    """Whether most of `voters` hold `index`. The leader sorts; here it is counted once more, one by one."""
    members = raft.tracker.progress
    held = 0
    for voter in voters:
        if members[voter].match >= index:
            held += 1
    if raft.log.unstable.offset_in_progress <= index:
        # The own entry was not even handed out for writing, whatever was acknowledged in its name.
        held -= raft.node_id in voters and members[raft.node_id].match >= index
    return 2 * held > len(voters)


def check_invariants_fully(raft: Raft, *, peers_are_honest: bool = True) -> None:
    """Check everything that can be seen of one node. Takes time in proportion to the log; for tests.

    Some of it would be violated by a peer that lies about who leads, which Raft cannot help; tests that send such
    messages say so. What production checks holds whatever arrives.
    """
    check_invariants(raft)
    if peers_are_honest:
        _check_leadership(raft)
    _check_log(raft)
    _check_membership(raft)
    _check_role(raft)
    _check_messages(raft)
    if raft.role is Role.LEADER:
        _check_leader(raft)


def _check_log(raft: Raft) -> None:
    log = raft.log
    unstable = log.unstable
    entries = log.all_entries()
    _check_unstable(log)
    for position, entry in enumerate(entries):
        invariant(entry.index == log.first_index() + position, "entry %d stands at a wrong place", entry.index)
        if position:
            invariant(entries[position - 1].term <= entry.term, "the term falls at index %d", entry.index)
    invariant(log.first_index() + len(entries) == log.last_index() + 1, "the log does not reach its last index")
    invariant(not entries or entries[-1].term <= raft.term, "the log is ahead of term %d", raft.term)
    invariant(
        not raft.config.async_storage_writes or log.applying < unstable.offset,
        "entry %d is applied, but only entries before %d are durable",
        log.applying,
        unstable.offset,
    )


def _check_unstable(log: RaftLog) -> None:
    unstable = log.unstable
    invariant(
        unstable.offset <= unstable.offset_in_progress <= unstable.offset + len(unstable.entries),
        "unstable offsets %d and %d do not fit %d entries",
        unstable.offset,
        unstable.offset_in_progress,
        len(unstable.entries),
    )
    invariant(
        unstable.offset + len(unstable.entries) == log.last_index() + 1,
        "unstable entries from %d on, %d of them, do not end at %d",
        unstable.offset,
        len(unstable.entries),
        log.last_index(),
    )


def _check_membership(raft: Raft) -> None:
    conf = raft.tracker.conf_state()
    voters = {*conf.voters, *conf.voters_outgoing}
    members = voters | {*conf.learners, *conf.learners_next}
    progress = raft.tracker.progress
    invariant(set(progress) == members, "progress is kept for others than the members")
    invariant(not voters & set(conf.learners), "a node is voter and learner at once")
    invariant(set(conf.learners_next) <= set(conf.voters_outgoing), "a future learner is no outgoing voter")
    invariant(conf.voters_outgoing or not conf.auto_leave, "a configuration that is not joint wants to be left")
    invariant(list(progress) == sorted(progress), "members are not in ascending order")
    for node_id, known in progress.items():
        invariant(known.is_learner == (node_id in conf.learners), "node %d is counted in a wrong role", node_id)
    invariant(raft.is_learner == (raft.node_id in conf.learners), "node %d mistakes its own role", raft.node_id)


def _check_leadership(raft: Raft) -> None:
    """A term has one leader (Raft paper Figure 3, election safety), and the leader knows that it is."""
    first = raft.witness.leader_id
    invariant(raft.leader_id in (NONE, first), "term %d has two leaders, %d and %d", raft.term, first, raft.leader_id)
    invariant(
        raft.role is Role.LEADER or raft.leader_id != raft.node_id, "a %s believes that it leads", raft.role.value
    )


def _check_role(raft: Raft) -> None:
    """What a role means for the vote, the known leader, and what only a leader keeps."""
    role = raft.role
    if role in (Role.CANDIDATE, Role.LEADER):
        invariant(raft.vote == raft.node_id, "a %s of term %d voted for %d", role.value, raft.term, raft.vote)
    if role in (Role.CANDIDATE, Role.PRE_CANDIDATE):
        invariant(raft.leader_id == NONE, "a %s follows node %d", role.value, raft.leader_id)
    if role is not Role.LEADER:
        invariant(not raft.read_only.pending(), "a %s keeps reads waiting", role.value)
        invariant(not raft.uncommitted_bytes, "a %s counts %d uncommitted bytes", role.value, raft.uncommitted_bytes)
    timeout = raft.randomized_election_timeout_ticks
    invariant(
        raft.config.election_ticks <= timeout < 2 * raft.config.election_ticks,
        "election timeout %d lies outside of [T, 2T-1]",
        timeout,
    )


def _check_messages(raft: Raft) -> None:
    """A promise waits for the disk, and nothing is said in the name of a term that is not reached."""
    for message in raft.messages:
        invariant(message.type not in _PROMISES, "%s to %d does not wait", message.type.name, message.to)
        invariant(
            message.term <= raft.term or message.type is MessageType.PRE_VOTE,
            "%s to %d is of term %d",
            message.type.name,
            message.to,
            message.term,
        )


def _check_leader(raft: Raft) -> None:
    log = raft.log
    invariant(log.last_term() == raft.term, "the leader of term %d ends in term %d", raft.term, log.last_term())
    # `pending_conf_index` may lie behind the end: it is set before the limit on uncommitted bytes drops the proposal.
    for context, index in raft.read_only.pending():
        invariant(index <= log.committed, "read %r waits for %d, which is not committed", context, index)
    for node_id, progress in raft.tracker.progress.items():
        _check_progress(log, node_id, progress)


def _check_progress(log: RaftLog, node_id: int, progress: Progress) -> None:
    last_index = log.last_index()
    invariant(progress.match < progress.next, "node %d: match %d, next %d", node_id, progress.match, progress.next)
    invariant(progress.match <= last_index, "node %d holds more than its leader", node_id)
    invariant(progress.next <= last_index + 1, "node %d is to be sent %d next", node_id, progress.next)
    invariant(progress.sent_commit <= log.committed, "node %d was told a commit index ahead of time", node_id)
    if progress.state is not ProgressState.REPLICATE:
        invariant(progress.inflights.count == 0, "node %d has appends in flight outside of replicate", node_id)
    if progress.state is not ProgressState.SNAPSHOT:
        invariant(not progress.pending_snapshot, "node %d waits for a snapshot outside of snapshot", node_id)
