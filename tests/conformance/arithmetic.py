"""The commands of the quorum and membership-change files: pure arithmetic, no node."""

from __future__ import annotations

from raftactors.core.confchange import Changer
from raftactors.core.quorum import (
    VoteResult,
    committed_index,
    joint_committed_index,
    joint_vote_result,
    vote_result,
)
from raftactors.core.tracker import Tracker
from raftactors.core.types import UNLIMITED
from raftactors.errors import ConfChangeError
from tests.conformance import printing
from tests.conformance.datadriven_syntax import Directive, DirectiveError

_VOTE_NAMES = {VoteResult.WON: "VoteWon", VoteResult.LOST: "VoteLost", VoteResult.PENDING: "VotePending"}


class QuorumCommands:
    """`committed` and `vote`."""

    def run(self, directive: Directive) -> str:
        """Perform one directive; returns its output."""
        if directive.command not in ("committed", "vote"):
            raise DirectiveError(f"unknown command {directive.command}")
        argument = "idx" if directive.command == "committed" else "votes"
        directive.check_arguments(("cfg", "cfgj", argument))
        voters = [int(value) for value in directive.values("cfg")]
        second = directive.values("cfgj")
        outgoing = [] if second == ("zero",) else [int(value) for value in second]
        values = directive.values(argument)
        members = list(dict.fromkeys([*voters, *outgoing]))
        if len(values) != len(members):
            shown = " ".join(f"{member}:{{}}" for member in sorted(members))
            return f"error: mismatched input (explicit or _) for voters map[{shown}]: [{' '.join(values)}]"
        known = {member: value for member, value in zip(members, values, strict=True) if value != "_"}
        if directive.command == "vote":
            votes = {member: value == "y" for member, value in known.items()}
            result = joint_vote_result(voters, outgoing, votes) if second else vote_result(voters, votes)
            return _VOTE_NAMES[result]
        acked = {member: int(value) for member, value in known.items()}
        index = joint_committed_index(voters, outgoing, acked) if second else committed_index(voters, acked)
        return _picture(members, acked) + ("∞" if index == UNLIMITED else str(index))


def _picture(members: list[int], acked: dict[int, int]) -> str:
    """A bar for every voter, as long as the number of voters that are known to be strictly behind it."""
    if not members:
        return "<empty majority quorum>"
    width = len(members)
    ranked = sorted((acked.get(member, 0), member) for member in members)
    bars = {
        member: position if position and ranked[position - 1][0] < index else 0
        for position, (index, member) in enumerate(ranked)
    }
    lines = [" " * width + "    idx"]
    for member in sorted(members):
        bar = "x" * bars[member] + ">" + " " * (width - bars[member]) if member in acked else "?" + " " * width
        lines.append(f"{bar} {acked.get(member, 0):5}    (id={member})")
    return "\n".join(lines) + "\n"


class ConfChangeCommands:
    """`simple`, `enter-joint` and `leave-joint` on one membership."""

    def __init__(self) -> None:
        self._tracker = Tracker(10, UNLIMITED)
        self._last_index = 0

    def run(self, directive: Directive) -> str:
        """Perform one directive; returns the new membership and its progress, or the error's text."""
        try:
            return self._change(directive)
        except ConfChangeError as error:
            return str(error)
        finally:
            self._last_index += 1

    def _change(self, directive: Directive) -> str:
        changes = printing.parse_changes(directive.input)
        changer = Changer(self._tracker, self._last_index)
        if directive.command == "simple":
            directive.check_arguments(())
            conf, progress = changer.simple(changes)
        elif directive.command == "enter-joint":
            directive.check_arguments(("autoleave",))
            conf, progress = changer.enter_joint(directive.flag("autoleave"), changes)
        elif directive.command == "leave-joint":
            directive.check_arguments(())
            if changes:
                return "this command takes no input"
            conf, progress = changer.leave_joint()
        else:
            raise DirectiveError(f"unknown command {directive.command}")
        self._tracker.switch(conf, progress)
        lines = [printing.membership_text(conf)]
        lines += [f"{node_id}: {printing.progress_text(peer)}" for node_id, peer in self._tracker.progress.items()]
        return "\n".join(lines)
