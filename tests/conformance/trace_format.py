"""The JSON of the traces to and from the core's own types."""

from __future__ import annotations

from raftactors.core.confchange_wire import decode_conf_change, encode_conf_change
from raftactors.core.messages import Message, MessageType
from raftactors.core.ready import Ready
from raftactors.core.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    Snapshot,
)
from tests.conformance.trace_schema import Json

MESSAGE_NAMES = {kind: "Msg" + kind.name.title().replace("_", "") for kind in MessageType}
_MESSAGE_TYPES = {name: kind for kind, name in MESSAGE_NAMES.items()}

_PSEUDO_NAMES = {APPEND_THREAD: "append_thread", APPLY_THREAD: "apply_thread"}
_PSEUDO_IDS = {name: node_id for node_id, name in _PSEUDO_NAMES.items()}

_ENTRY_NAMES = {EntryType.CONF_CHANGE: "conf_v1", EntryType.CONF_CHANGE_V2: "conf_v2"}
_ENTRY_TYPES = {name: kind for kind, name in _ENTRY_NAMES.items()}

_CHANGE_NAMES = {
    ConfChangeType.ADD_NODE: "add",
    ConfChangeType.REMOVE_NODE: "remove",
    ConfChangeType.UPDATE_NODE: "update",
    ConfChangeType.ADD_LEARNER: "add_learner",
}
_CHANGE_TYPES = {name: kind for kind, name in _CHANGE_NAMES.items()}

_TRANSITION_NAMES = {
    ConfChangeTransition.AUTO: "auto",
    ConfChangeTransition.JOINT_IMPLICIT: "implicit",
    ConfChangeTransition.JOINT_EXPLICIT: "explicit",
}
_TRANSITIONS = {name: transition for transition, name in _TRANSITION_NAMES.items()}


def text(payload: bytes) -> str:
    """A payload as the traces write it; all of theirs are ASCII."""
    return payload.decode("ascii")


# --- to JSON --------------------------------------------------------------------------------------------------


def conf_json(conf: ConfState) -> Json:
    """A membership."""
    return {
        "voters": list(conf.voters),
        "voters_outgoing": list(conf.voters_outgoing),
        "learners": list(conf.learners),
        "learners_next": list(conf.learners_next),
        "auto_leave": conf.auto_leave,
    }


def snapshot_json(snapshot: Snapshot) -> Json:
    """A snapshot."""
    return {
        "index": snapshot.index,
        "term": snapshot.term,
        "conf": conf_json(snapshot.conf_state),
        "data": text(snapshot.data),
    }


def change_json(change: ConfChange | ConfChangeV2) -> Json:
    """A membership change."""
    if isinstance(change, ConfChange):
        single = {"type": _CHANGE_NAMES[change.type], "node": change.node_id}
        return {"v1": True, "changes": [single], "id": change.id, "context": text(change.context)}
    return {
        "transition": _TRANSITION_NAMES[change.transition],
        "changes": [{"type": _CHANGE_NAMES[single.type], "node": single.node_id} for single in change.changes],
        "context": text(change.context),
    }


def entry_json(entry: Entry) -> Json:
    """A log entry; a membership change also in its decoded form."""
    result: Json = {"term": entry.term, "index": entry.index}
    if entry.type is EntryType.NORMAL:
        return result | {"data": None if entry.data is None else text(entry.data)}
    result["type"] = _ENTRY_NAMES[entry.type]
    result["hex"] = None if entry.data is None else entry.data.hex()
    result["cc"] = change_json(decode_conf_change(entry))
    return result


def entries_json(entries: tuple[Entry, ...]) -> list[Json]:
    """Log entries."""
    return [entry_json(entry) for entry in entries]


def message_json(message: Message, *, responses: bool = True) -> Json:
    """A message, on demand without the responses it carries."""
    return {
        "type": MESSAGE_NAMES[message.type],
        "from": _PSEUDO_NAMES.get(message.sender, message.sender),
        "to": _PSEUDO_NAMES.get(message.to, message.to),
        "term": message.term,
        "log_term": message.log_term,
        "index": message.index,
        "entries": entries_json(message.entries),
        "commit": message.commit,
        "vote": message.vote,
        "snapshot": None if message.snapshot is None else snapshot_json(message.snapshot),
        "reject": message.reject,
        "reject_hint": message.reject_hint,
        "context": text(message.context),
        "responses": [message_json(response) for response in message.responses] if responses else [],
    }


def ready_json(ready: Ready) -> Json:
    """A Ready; its messages have no sequence numbers yet."""
    result: Json = {
        "must_sync": ready.must_sync,
        "entries": entries_json(ready.entries),
        "committed": entries_json(ready.committed),
        "messages": [message_json(message) for message in ready.messages],
        "read_states": [{"index": read.index, "ctx": text(read.context)} for read in ready.read_states],
    }
    if ready.soft_state is not None:
        result["soft_state"] = {"lead": ready.soft_state.leader_id, "role": ready.soft_state.role.value}
    if ready.hard_state is not None:
        result["hard_state"] = ready.hard_state._asdict()
    if ready.snapshot is not None:
        result["snapshot"] = snapshot_json(ready.snapshot)
    return result


# --- from JSON ------------------------------------------------------------------------------------------------


def conf_from(value: Json) -> ConfState:
    """A membership."""
    return ConfState(
        voters=tuple(value["voters"]),
        voters_outgoing=tuple(value.get("voters_outgoing") or ()),
        learners=tuple(value.get("learners") or ()),
        learners_next=tuple(value.get("learners_next") or ()),
        auto_leave=value.get("auto_leave") or False,
    )


def snapshot_from(value: Json) -> Snapshot:
    """A snapshot."""
    conf = value.get("conf")
    return Snapshot(
        index=value.get("index", 0),
        term=value.get("term", 0),
        conf_state=ConfState() if conf is None else conf_from(conf),
        data=(value.get("data") or "").encode("ascii"),
    )


def change_from(value: Json) -> ConfChange | ConfChangeV2:
    """A membership change."""
    singles = [
        ConfChangeSingle(_CHANGE_TYPES[single["type"]], single.get("node", 0)) for single in value.get("changes") or ()
    ]
    context = (value.get("context") or "").encode("ascii")
    if value.get("v1"):
        (single,) = singles
        return ConfChange(single.type, single.node_id, context, value.get("id", 0))
    return ConfChangeV2(tuple(singles), _TRANSITIONS[value["transition"]], context)


def entry_from(value: Json) -> Entry:
    """A log entry. Raises ValueError if the bytes of a membership change and its decoded form disagree."""
    term, index = value.get("term", 0), value.get("index", 0)
    kind = value.get("type")
    if kind is None:
        payload = value.get("data")
        return Entry(term, index, None if payload is None else payload.encode("ascii"))
    encoded = value.get("hex")
    entry = Entry(term, index, None if encoded is None else bytes.fromhex(encoded), _ENTRY_TYPES[kind])
    if entry.data is not None and entry.data != encode_conf_change(change_from(value["cc"])):
        raise ValueError(f"entry {term}/{index}: hex {encoded} is not the encoding of {value['cc']}")
    return entry


def message_from(value: Json) -> Message:
    """A message."""
    snapshot = value.get("snapshot")
    return Message(
        type=_MESSAGE_TYPES[value["type"]],
        to=_node_id(value.get("to", 0)),
        sender=_node_id(value.get("from", 0)),
        term=value.get("term", 0),
        log_term=value.get("log_term", 0),
        index=value.get("index", 0),
        entries=tuple(entry_from(entry) for entry in value.get("entries") or ()),
        commit=value.get("commit", 0),
        vote=value.get("vote", 0),
        snapshot=None if snapshot is None else snapshot_from(snapshot),
        reject=value.get("reject", False),
        reject_hint=value.get("reject_hint", 0),
        context=(value.get("context") or "").encode("ascii"),
        responses=tuple(message_from(response) for response in value.get("responses") or ()),
    )


def _node_id(value: int | str) -> int:
    return value if isinstance(value, int) else _PSEUDO_IDS[value]
