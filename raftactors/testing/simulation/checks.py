"""What must hold in the whole cluster after every event (Raft paper Figure 3, thesis chapters 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftactors.core.invariants import check_invariants_fully
from raftactors.core.types import NONE, ConfState, Entry, Role, Snapshot
from raftactors.testing.simulation.membership_model import has_quorum
from raftactors.testing.simulation.violation import Violation, require

if TYPE_CHECKING:
    from raftactors.testing.simulation.process import Process
    from raftactors.testing.simulation.simulation import Simulation

FULL_CHECK_EVERY = 64
"""After this many events of a process its whole state is walked through."""


class Seen:
    """What a process looked like after its last event."""

    __slots__ = ("applied", "committed", "events", "leading", "matches", "term", "vote")

    def __init__(self, process: Process) -> None:
        hard_state = process.disk.durable.hard_state
        self.term, self.vote = hard_state.term, hard_state.vote
        self.committed = process.log.snapshot_index
        self.applied = -1
        self.leading = 0
        self.events = 0
        self.matches: dict[int, int] = {}


class Checks:
    """Compares every node with all that was seen of the others."""

    def __init__(self, world: Simulation) -> None:
        self._world = world
        self._leaders: dict[int, tuple[int, int]] = {}
        self._entries: dict[tuple[int, int], tuple[int, Entry]] = {}
        self._digests: dict[int, int] = {}

    # --- after an event -------------------------------------------------------------------------------------------

    def after_event(self, process: Process) -> None:
        """Check what this event may have changed."""
        raft, seen, node_id = process.raw.raft, process.seen, process.node_id
        term, log = raft.term, raft.log
        if term != seen.term or raft.vote != seen.vote:
            require(term >= seen.term, "term_regressed", "node %d: %d to %d", node_id, seen.term, term)
            if term == seen.term:
                require(seen.vote == NONE, "two_votes", "node %d, term %d: %d, %d", node_id, term, seen.vote, raft.vote)
            seen.term, seen.vote = term, raft.vote
        leading = raft.role is Role.LEADER
        if leading and seen.leading != term:
            self._on_leader(process, term)
        seen.leading = term if leading else 0
        committed = log.committed
        if committed != seen.committed:
            require(committed > seen.committed, "commit_regressed", "node %d: %d", node_id, committed)
            self._on_commit(process, seen.committed, committed)
            seen.committed = committed
        if log.applied != seen.applied:
            require(log.applied > seen.applied, "applied_regressed", "node %d: %d", node_id, log.applied)
            self._on_applied_index(process)
            seen.applied = log.applied
        if leading:
            self._check_matches(process)
        seen.events += 1
        if seen.events % FULL_CHECK_EVERY == 0:
            check_invariants_fully(raft)

    def _on_leader(self, process: Process, term: int) -> None:
        """Election safety and leader completeness."""
        node_id, log, oracle = process.node_id, process.raw.raft.log, self._world.oracle
        leader = (node_id, process.incarnation)
        first = self._leaders.setdefault(term, leader)
        # The same node after a restart is another leader: it may have forgotten what it appended before.
        require(first == leader, "election_safety", "term %d has leaders (node, start) %s and %s", term, first, leader)
        process.seen.matches = {}
        disks, confs = self._world.disks, self._confs(process)

        def has_voted(voter: int) -> bool:
            durable = disks[voter].durable.hard_state
            return durable.term > term or (durable.term == term and durable.vote == node_id)

        require(
            any(has_quorum(conf, has_voted) for conf in confs),
            "elected_without_quorum",
            "node %d leads term %d, but only the disks of %s know that they voted for it; members: %s",
            node_id,
            term,
            [voter for voter in disks if has_voted(voter)],
            confs,
        )
        index = len(oracle.committed)
        while index and oracle.commit_terms[index - 1] >= term:
            index -= 1
        if index >= log.first_index():
            expected = oracle.committed[index - 1].term
            require(
                log.matches(expected, index),
                "leader_completeness",
                "node %d leads term %d without the entry of term %d at index %d, which is committed",
                node_id,
                term,
                expected,
                index,
            )
        else:
            require(log.last_index() >= index, "leader_completeness", "node %d lacks index %d", node_id, index)

    def _on_commit(self, process: Process, before: int, after: int) -> None:
        """State-machine safety, and commit only with a quorum on disk."""
        raft, oracle, node_id = process.raw.raft, self._world.oracle, process.node_id
        first = max(before + 1, raft.log.first_index())
        if first > before + 1:
            require(first - 1 <= len(oracle.committed), "commit_gap", "node %d: snapshot at %d", node_id, first - 1)
        for entry in raft.log.slice(first, after + 1):
            oracle.commit(entry, raft.term, node_id)
        if raft.role is not Role.LEADER:
            return
        term = oracle.committed[after - 1].term
        require(term == raft.term, "commit_of_older_term", "node %d, term %d, index %d", node_id, raft.term, after)
        confs = self._confs(process)
        disks = self._world.disks
        require(
            any(has_quorum(conf, lambda voter: disks[voter].durable.holds(after, term)) for conf in confs),
            "commit_without_quorum",
            "node %d commits index %d of term %d, which is on the disks of %s only; members: %s",
            node_id,
            after,
            term,
            [holder for holder, disk in disks.items() if disk.durable.holds(after, term)],
            confs,
        )

    def _confs(self, process: Process) -> list[ConfState]:
        """The memberships under which the process may have counted during this event."""
        voters = self._world.plan.voters
        applied = process.raw.raft.log.applied
        confs = self._world.oracle.confs_between(max(process.seen.applied, 0), applied)
        if process.seen.applied < len(voters):
            confs.append(ConfState(voters=voters))
        return confs

    def _on_applied_index(self, process: Process) -> None:
        raft = process.raw.raft
        if raft.log.unstable.snapshot is not None or raft.log.applied < len(self._world.plan.voters):
            return
        expected = self._world.oracle.conf_at(raft.log.applied)
        found = raft.tracker.conf_state()
        require(
            found == expected,
            "membership",
            "node %d at applied index %d: %s instead of %s",
            process.node_id,
            raft.log.applied,
            found,
            expected,
        )

    def _check_matches(self, process: Process) -> None:
        """What a leader believes to be on a disk is there."""
        raft, seen = process.raw.raft, process.seen.matches
        for node_id, progress in raft.tracker.progress.items():
            match = progress.match
            if seen.get(node_id) == match:
                continue
            seen[node_id] = match
            disk = self._world.disks.get(node_id)
            term = raft.log.try_term(match)
            # A leader takes its own log for durable from the start; that counts only for the entries of its term.
            counts = node_id != process.node_id or term == raft.term
            # In a later term a member may have been told to replace what it acknowledged.
            if disk is not None and term and counts and disk.durable.hard_state.term <= raft.term:
                require(
                    disk.durable.holds(match, term),
                    "false_acknowledgement",
                    "leader %d of term %d counts index %d on node %d, whose disk does not hold it",
                    process.node_id,
                    raft.term,
                    match,
                    node_id,
                )

    # --- on the way -----------------------------------------------------------------------------------------------

    def appending(self, process: Process, entries: tuple[Entry, ...]) -> None:
        """Log matching: an entry's index and term name its content and its predecessor's term, and so all before."""
        known, log = self._entries, process.raw.raft.log
        previous = log.try_term(entries[0].index - 1) if entries else None
        for entry in entries:
            if previous is not None:
                found = known.setdefault((entry.term, entry.index), (previous, entry))
                if found != (previous, entry):
                    raise Violation(
                        "log_matching",
                        f"node {process.node_id} appends {entry} behind term {previous}, known is {found}",
                    )
            previous = entry.term

    def applied(self, process: Process, entry: Entry) -> None:
        """The application has applied an entry."""
        node_id, host, oracle = process.node_id, process.host, self._world.oracle
        require(
            entry.index <= process.raw.raft.log.committed, "apply_before_commit", "node %d: %d", node_id, entry.index
        )
        oracle.apply(entry, node_id)
        digest = self._digests.setdefault(entry.index, host.digest)
        require(digest == host.digest, "replica_digest", "node %d differs at index %d", node_id, entry.index)
        oracle.check_state(entry.index, node_id, host.application.snapshot)

    def snapshot_made(self, process: Process, snapshot: Snapshot) -> None:
        """A node describes everything up to an index, for itself and for others."""
        oracle, node_id = self._world.oracle, process.node_id
        oracle.check_snapshot(snapshot.index, node_id, snapshot.data)
        expected = oracle.conf_at(snapshot.index)
        require(
            snapshot.conf_state == expected or snapshot.index < len(self._world.plan.voters),
            "snapshot_membership",
            "node %d, index %d: %s instead of %s",
            node_id,
            snapshot.index,
            snapshot.conf_state,
            expected,
        )

    def restored(self, process: Process) -> None:
        """A node has become what a snapshot says."""
        oracle, host, node_id = self._world.oracle, process.host, process.node_id
        index = host.applied_index
        require(index <= oracle.applied_index, "restore_ahead", "node %d restores index %d", node_id, index)
        oracle.check_snapshot(index, node_id, host.snapshot())
        oracle.check_state(index, node_id, host.application.snapshot)

    def settled(self, process: Process) -> None:
        """The cluster is at peace: a last look at everything."""
        check_invariants_fully(process.raw.raft)
        host = process.host
        self._world.oracle.check_snapshot(host.applied_index, process.node_id, host.snapshot())
        require(
            self._digests.get(host.applied_index) == host.digest or not host.applied_index,
            "replica_digest",
            "node %d differs at the end, index %d",
            process.node_id,
            host.applied_index,
        )
