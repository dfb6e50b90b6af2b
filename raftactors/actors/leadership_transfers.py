"""Transfers of the leadership that operators ask for: each is answered when it is known what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raftactors.codec import replies
from raftactors.config import RaftTiming
from raftactors.core.raw_node import RawNode
from raftactors.core.types import NONE

TRANSFERS_MAX = 64
"""Transfers that wait for their end at one node; a further one is answered BUSY."""

BUSY_RETRY_AFTER_MS = 100
"""What the asker of one too many is told to wait."""

FORWARDED_TIMEOUTS = 2
"""Election timeouts after which a transfer that another node leads through counts as failed: it had one of them."""

LEADERLESS_TIMEOUTS = 4
"""Election timeouts after which the asker is told to ask again, because nobody leads."""


@dataclass(slots=True)
class _Transfer:
    pending_id: int
    target: int
    leader_id: int
    asked_at_tick: int
    has_begun: bool = False


class LeadershipTransfers:
    """Used by the consensus actor alone, on its thread.

    A target that is known to be silent is not begun with, because a leader takes no commands during a transfer (thesis
    section 3.10). `answer(pending_id, body)` sends a reply.
    """

    def __init__(
        self, *, node_id: int, raft: RawNode, timing: RaftTiming, answer: Callable[[int, bytes], None]
    ) -> None:
        self._node_id = node_id
        self._raft = raft
        self._timeout_ticks = timing.election_ticks
        self._timeout_ms = timing.election_timeout_ms
        self._answer = answer
        self._transfers: list[_Transfer] = []
        self._ticks = 0

    def tick(self) -> None:
        """A tick has passed."""
        self._ticks += 1

    def request(self, pending_id: int, target: object) -> None:
        """Begin a transfer to `target`, a node id as far as the asker knows, or say why it cannot be."""
        raft = self._raft.raft
        leader_id = raft.leader_id
        voters = sorted(raft.tracker.voter_ids)
        if type(target) is not int or target not in voters:
            known = ", ".join(map(str, voters))
            self._reject(pending_id, f"node {target!r:.100} is no voter; the voters are {known}")
        elif leader_id == NONE:
            self._answer(pending_id, replies.encode_retry(NONE))
        elif leader_id == target:
            self._reject(pending_id, f"node {target} leads already")
        elif len(self._transfers) >= TRANSFERS_MAX:
            self._answer(pending_id, replies.encode_busy(leader_id, BUSY_RETRY_AFTER_MS))
        else:
            self._transfers.append(_Transfer(pending_id, target, leader_id, self._ticks))

    def look(self) -> None:
        """Begin what can be begun, and answer what has come to its end."""
        if self._transfers:
            self._transfers = [transfer for transfer in self._transfers if not self._has_ended(transfer)]

    def _has_ended(self, transfer: _Transfer) -> bool:
        target, leader_id = transfer.target, self._raft.raft.leader_id
        waited_ticks = self._ticks - transfer.asked_at_tick
        if leader_id == target:
            self._answer(transfer.pending_id, replies.encode_document(leader_id, True))
            return True
        if leader_id == NONE:
            if waited_ticks < LEADERLESS_TIMEOUTS * self._timeout_ticks:
                return False
            self._answer(transfer.pending_id, replies.encode_retry(NONE))
            return True
        if leader_id != transfer.leader_id:
            failure = f"node {leader_id} was elected instead"
        elif leader_id == self._node_id:
            failure = self._go_on(transfer, waited_ticks)
        else:
            failure = self._forward(transfer, waited_ticks)
        if failure:
            self._reject(transfer.pending_id, f"{failure}; node {leader_id} leads")
        return bool(failure)

    def _go_on(self, transfer: _Transfer, waited_ticks: int) -> str:
        """As the leader; returns why the transfer has failed, empty while it has not."""
        raft, target = self._raft.raft, transfer.target
        if transfer.has_begun:
            failure = f"node {target} did not take over within an election timeout ({self._timeout_ms} ms); is it well?"
            if raft.transferee_id not in (NONE, target):
                failure = f"the transfer to node {target} was given up for one to node {raft.transferee_id}"
            return "" if raft.transferee_id == target else failure
        progress = raft.tracker.progress.get(target)
        if progress is None or progress.is_learner:
            return f"node {target} is no voter any more"
        # Who is active is counted anew with every election timeout, so a live one may look silent for a moment.
        if progress.recent_active:
            transfer.has_begun = True
            self._raft.transfer_leader(target)
        elif waited_ticks >= self._timeout_ticks:
            return f"node {target} was silent for an election timeout ({self._timeout_ms} ms); is it running?"
        return ""

    def _forward(self, transfer: _Transfer, waited_ticks: int) -> str:
        if not transfer.has_begun:
            transfer.has_begun = True
            self._raft.transfer_leader(transfer.target)
        if waited_ticks < FORWARDED_TIMEOUTS * self._timeout_ticks:
            return ""
        waited_ms = FORWARDED_TIMEOUTS * self._timeout_ms
        return f"node {transfer.target} did not take over within {waited_ms} ms; is it running and well?"

    def _reject(self, pending_id: int, text: str) -> None:
        self._answer(pending_id, replies.encode_rejected(self._raft.raft.leader_id, text))
