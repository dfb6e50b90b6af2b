"""Bugs of elections, terms and votes."""

from __future__ import annotations

from collections.abc import Mapping

from pytest import MonkeyPatch

from raftactors.core import raft as raft_module
from raftactors.core import terms
from raftactors.core import tracker as tracker_module
from raftactors.core.log import RaftLog
from raftactors.core.messages import Message, MessageType
from raftactors.core.quorum import VoteResult, vote_result
from raftactors.core.raft import Raft
from raftactors.core.tracker import Tracker
from raftactors.core.types import NONE, HardState
from tests.simulation.mutant import CaughtBy, Handler, mutant, replace_handler


@mutant("the vote is not part of what is made durable (PySyncObj #84)")
def vote_not_persisted(patch: MonkeyPatch) -> None:
    patch.setattr(Raft, "hard_state", lambda self: HardState(self.term, NONE, self.log.committed))


@mutant("a node forgets its vote when it starts again, and votes twice in a term (raftos)")
def double_vote_after_restart(patch: MonkeyPatch) -> None:
    right = Raft._load

    def load(self: Raft) -> None:
        right(self)
        self.vote = NONE

    patch.setattr(Raft, "_load", load)


@mutant("a node votes for everybody who asks in a term")
def vote_for_everybody(patch: MonkeyPatch) -> None:
    def make(right: Handler) -> Handler:
        def handle(raft: Raft, message: Message) -> None:
            if message.term == raft.term and raft.vote not in (NONE, raft.node_id):
                raft.vote = raft.leader_id = NONE
            right(raft, message)

        return handle

    replace_handler(patch, MessageType.VOTE, make)


@mutant("votes and acknowledgements leave before they are durable")
def answers_before_disk(patch: MonkeyPatch) -> None:
    def respond(self: Raft, message: Message) -> None:
        (self.messages_after_append if message.to == self.node_id else self.messages).append(message)

    patch.setattr(Raft, "respond_after_append", respond)


# The nodes hold what they say in a term back until it is durable, so in a cluster this is harmless; the core differs.
@mutant("a candidate's own vote counts before it is durable", caught_by=CaughtBy.TRACES)
def own_vote_before_disk(patch: MonkeyPatch) -> None:
    right = Raft.become_candidate

    def become(self: Raft) -> None:
        right(self)
        self.tracker.record_vote(self.node_id, True)

    patch.setattr(Raft, "become_candidate", become)


@mutant("logs are compared by their length only (Raft paper 5.4.1)", caught_by=CaughtBy.TRACES)
def log_comparison_by_length(patch: MonkeyPatch) -> None:
    patch.setattr(RaftLog, "is_up_to_date", lambda self, term, index: index >= self.last_index())


@mutant("a vote goes to whoever asks first, whatever its log holds")
def log_not_compared(patch: MonkeyPatch) -> None:
    patch.setattr(RaftLog, "is_up_to_date", lambda self, term, index: True)


@mutant("half of an even number of voters elects a leader")
def election_by_half(patch: MonkeyPatch) -> None:
    def joint(incoming: tuple[int, ...], outgoing: tuple[int, ...], votes: Mapping[int, bool]) -> VoteResult:
        granted = sum(1 for voter in incoming if votes.get(voter))
        return VoteResult.WON if 2 * granted >= len(incoming) else vote_result(incoming, votes)

    patch.setattr(tracker_module, "joint_vote_result", joint)


@mutant("each vote counts as often as it arrives (PySyncObj counts, it does not remember who)")
def votes_counted_twice(patch: MonkeyPatch) -> None:
    right = Tracker.record_vote

    def count(self: Tracker, node_id: int, granted: bool) -> VoteResult:
        silent = [voter for voter in self.voter_ids if voter not in self.votes]
        if node_id in self.votes and silent:
            return right(self, silent[0], granted)
        return right(self, node_id, granted)

    patch.setattr(Tracker, "record_vote", count)


@mutant("in a joint membership the new half alone elects (thesis 4.3)", caught_by=CaughtBy.TRACES)
def joint_election_by_one_half(patch: MonkeyPatch) -> None:
    patch.setattr(tracker_module, "joint_vote_result", lambda incoming, outgoing, votes: vote_result(incoming, votes))


@mutant("messages of earlier terms are handled like those of the present one")
def stale_terms_accepted(patch: MonkeyPatch) -> None:
    def handle(raft: Raft, message: Message) -> None:
        raft._handlers[message.type](raft, message._replace(term=raft.term))

    patch.setattr(raft_module, "answer_stale", handle)


@mutant("a pre-vote raises the term of whoever is asked (thesis 9.6)", caught_by=CaughtBy.TRACES)
def pre_vote_raises_term(patch: MonkeyPatch) -> None:
    right = terms.meet_higher_term

    def meet(raft: Raft, message: Message) -> bool:
        if message.type == MessageType.PRE_VOTE:
            raft.become_follower(message.term, NONE)
            return True
        return right(raft, message)

    patch.setattr(raft_module, "meet_higher_term", meet)


@mutant("leadership goes to a member whose log lacks entries (thesis 3.10)", caught_by=CaughtBy.TRACES)
def transfer_to_lagging_node(patch: MonkeyPatch) -> None:
    def make(right: Handler) -> Handler:
        def handle(raft: Raft, message: Message) -> None:
            right(raft, message)
            if raft.transferee_id == message.sender:
                raft.messages.append(Message(MessageType.TIMEOUT_NOW, message.sender, raft.node_id, raft.term))

        return handle

    replace_handler(patch, MessageType.TRANSFER_LEADER, make)
