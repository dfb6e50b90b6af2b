"""How the data-driven files print what the core shows."""

from __future__ import annotations

from collections.abc import Iterable

from raftactors.core.confchange_wire import decode_conf_change
from raftactors.core.messages import Message
from raftactors.core.progress import Progress
from raftactors.core.ready import Ready
from raftactors.core.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    NONE,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Role,
    Snapshot,
)
from tests.conformance.datadriven_syntax import DirectiveError
from tests.conformance.trace_format import MESSAGE_NAMES

ROLE_NAMES = {
    Role.FOLLOWER: "StateFollower",
    Role.PRE_CANDIDATE: "StatePreCandidate",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
}
_ENTRY_NAMES = {
    EntryType.NORMAL: "EntryNormal",
    EntryType.CONF_CHANGE: "EntryConfChange",
    EntryType.CONF_CHANGE_V2: "EntryConfChangeV2",
}
_CHANGE_LETTERS = {
    ConfChangeType.ADD_NODE: "v",
    ConfChangeType.ADD_LEARNER: "l",
    ConfChangeType.REMOVE_NODE: "r",
    ConfChangeType.UPDATE_NODE: "u",
}
_CHANGE_TYPES = {letter: kind for kind, letter in _CHANGE_LETTERS.items()}
TRANSITIONS = {
    "auto": ConfChangeTransition.AUTO,
    "implicit": ConfChangeTransition.JOINT_IMPLICIT,
    "explicit": ConfChangeTransition.JOINT_EXPLICIT,
}
_NODE_NAMES = {NONE: "None", APPEND_THREAD: "AppendThread", APPLY_THREAD: "ApplyThread"}


def parse_changes(text: str) -> tuple[ConfChangeSingle, ...]:
    """Changes in the notation `v3 l4 r5 u1`."""
    changes = []
    for word in text.split():
        kind, node = _CHANGE_TYPES.get(word[0]), word[1:]
        if kind is None or not node.isdecimal():
            raise DirectiveError(f"unknown change {word!r}: use v, l, r or u and a node id")
        changes.append(ConfChangeSingle(kind, int(node)))
    return tuple(changes)


def _changes_text(change: ConfChange | ConfChangeV2) -> str:
    singles = [change] if isinstance(change, ConfChange) else change.changes
    return " ".join(f"{_CHANGE_LETTERS[single.type]}{single.node_id}" for single in singles)


def quoted(payload: bytes) -> str:
    """A payload in double quotes, with escapes where it is not plain text."""
    shown = payload.decode("utf-8", "backslashreplace").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{shown}"'


def entry_text(entry: Entry) -> str:
    """One log entry."""
    head = f"{entry.term}/{entry.index} {_ENTRY_NAMES[entry.type]}"
    if entry.type is EntryType.NORMAL:
        return f"{head} {quoted(entry.data or b'')}"
    return f"{head} {_changes_text(decode_conf_change(entry))}".rstrip()


def conf_text(conf: ConfState) -> str:
    """A membership as snapshots show it."""
    lists = (
        ("Voters", conf.voters),
        ("VotersOutgoing", conf.voters_outgoing),
        ("Learners", conf.learners),
        ("LearnersNext", conf.learners_next),
    )
    shown = " ".join(f"{name}:[{' '.join(map(str, ids))}]" for name, ids in lists)
    return f"{shown} AutoLeave:{_bool_text(conf.auto_leave)}"


def membership_text(conf: ConfState) -> str:
    """A membership as configuration changes show it: `voters=(1 2)&&(1) learners=(3) learners_next=(4) autoleave`."""
    shown = f"voters={_group_text(conf.voters)}"
    if conf.voters_outgoing:
        shown += f"&&{_group_text(conf.voters_outgoing)}"
    if conf.learners:
        shown += f" learners={_group_text(conf.learners)}"
    if conf.learners_next:
        shown += f" learners_next={_group_text(conf.learners_next)}"
    return shown + (" autoleave" if conf.auto_leave else "")


def _group_text(ids: Iterable[int]) -> str:
    return f"({' '.join(map(str, ids))})"


def _bool_text(value: bool) -> str:
    return "true" if value else "false"


def snapshot_text(snapshot: Snapshot) -> str:
    """A snapshot without its content."""
    return f"Index:{snapshot.index} Term:{snapshot.term} ConfState:{conf_text(snapshot.conf_state)}"


def hard_state_text(state: HardState) -> str:
    """A hard state; a vote for nobody is left out."""
    vote = f" Vote:{state.vote}" if state.vote else ""
    return f"Term:{state.term}{vote} Commit:{state.commit}"


def _node_text(node_id: int) -> str:
    return _NODE_NAMES.get(node_id) or f"{node_id:x}"


def message_text(message: Message, *, responses: bool = True) -> str:
    """A message, one or more lines without a final newline."""
    shown = f"{_node_text(message.sender)}->{_node_text(message.to)} {MESSAGE_NAMES[message.type]}"
    shown += f" Term:{message.term} Log:{message.log_term}/{message.index}"
    if message.reject:
        shown += f" Rejected (Hint: {message.reject_hint})"
    if message.commit:
        shown += f" Commit:{message.commit}"
    if message.vote:
        shown += f" Vote:{message.vote}"
    if len(message.entries) == 1:
        shown += f" Entries:[{entry_text(message.entries[0])}]"
    elif message.entries:
        shown += " Entries:[" + "".join(f"\n  {entry_text(entry)}" for entry in message.entries) + "\n]"
    if message.snapshot is not None and message.snapshot.index:
        shown += f"\n  Snapshot: {snapshot_text(message.snapshot)}"
    if responses and message.responses:
        inner = "\n".join(message_text(response) for response in message.responses)
        shown += " Responses:[\n" + indented(inner) + "\n]"
    return shown


def indented(text: str) -> str:
    """Every line moved right by two blanks."""
    return "\n".join("  " + line for line in text.split("\n"))


def ready_text(ready: Ready) -> str:
    """A Ready, every line with its newline; an empty one is a mark without a newline."""
    lines: list[str] = []
    if ready.soft_state is not None:
        lines.append(f"Lead:{ready.soft_state.leader_id} State:{ROLE_NAMES[ready.soft_state.role]}")
    if ready.hard_state is not None:
        lines.append(f"HardState {hard_state_text(ready.hard_state)}")
    if ready.read_states:
        shown = " ".join(f"{read.index}:{quoted(read.context)}" for read in ready.read_states)
        lines.append(f"ReadStates [{shown}]")
    if ready.entries:
        lines += ["Entries:", *map(entry_text, ready.entries)]
    if ready.snapshot is not None and ready.snapshot.index:
        lines.append(f"Snapshot {snapshot_text(ready.snapshot)}")
    if ready.committed:
        lines += ["CommittedEntries:", *map(entry_text, ready.committed)]
    if ready.messages:
        lines += ["Messages:", *map(message_text, ready.messages)]
    if not lines:
        return "<empty Ready>"
    return f"Ready MustSync={_bool_text(ready.must_sync)}:\n" + "".join(line + "\n" for line in lines)


def progress_text(progress: Progress) -> str:
    """One member's progress, without its id."""
    shown = f"State{progress.state.value.title()} match={progress.match} next={progress.next}"
    if progress.is_learner:
        shown += " learner"
    if progress.is_paused():
        shown += " paused"
    if progress.pending_snapshot:
        shown += f" pendingSnap={progress.pending_snapshot}"
    if not progress.recent_active:
        shown += " inactive"
    if progress.inflights.count:
        shown += f" inflight={progress.inflights.count}{'[full]' if progress.inflights.is_full() else ''}"
    return shown
