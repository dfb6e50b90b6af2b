"""The records a trace consists of, key by key, and the rule that makes two spellings of one value equal.

A trace leaves zero values out in messages, entries, memberships and snapshots. `normalise` checks a recorded value
against its record (an unknown key, a missing key or a wrong JSON type is a `SchemaError`) and drops what means the
same as absence, so that afterwards plain equality decides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Json = dict[str, Any]


class SchemaError(Exception):
    """A recorded value does not have the form its record asks for."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.path = path
        self.text = text


class Record(NamedTuple):
    """Keys that must be there, and keys that may be left out when they hold a zero value."""

    required: dict[str, str]
    optional: dict[str, str]


def _keys(kind: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), kind)


_CONFIG = Record(
    _keys("int", "election_tick heartbeat_tick max_inflight_msgs max_inflight_bytes max_uncommitted_entries_size")
    | _keys("bool", "check_quorum pre_vote disable_proposal_forwarding step_down_on_removal")
    | _keys("bool", "disable_conf_change_validation async_storage_writes")
    | {"max_committed_size_per_ready": "int", "read_only_option": "text", "max_size_per_msg": "size"},
    {},
)

RECORDS: dict[str, Record] = {
    "header": Record(
        _keys("int", "format scenario seed ops nodes") | _keys("bool", "async puppet") | {"reference": "text"}, {}
    ),
    "line": Record({"n": "int", "op": "any", "out": "out"}, {}),
    "config": _CONFIG,
    "entry": Record(
        {}, {"term": "int", "index": "int", "type": "text", "data": "payload", "hex": "payload", "cc": "cc"}
    ),
    "cc": Record({}, {"v1": "bool", "transition": "text", "changes": "[change]", "id": "int", "context": "text"}),
    "change": Record({}, {"type": "text", "node": "int"}),
    "conf": Record(
        {"voters": "[int]"},
        _keys("[int]", "voters_outgoing learners learners_next") | {"auto_leave": "bool"},
    ),
    "snapshot": Record({}, {"index": "int", "term": "int", "conf": "conf", "data": "text"}),
    "message": Record(
        {},
        _keys("int", "seq term log_term index commit vote reject_hint")
        | {"type": "text", "from": "id", "to": "id", "entries": "[entry]", "snapshot": "snapshot", "reject": "bool"}
        | {"context": "text", "responses": "[message]", "err": "text"},
    ),
    "hard_state": Record(_keys("int", "term vote commit"), {}),
    "soft_state": Record({"lead": "int", "role": "text"}, {}),
    "read": Record({"index": "int", "ctx": "text"}, {}),
    "ready": Record(
        {"must_sync": "bool"},
        {"soft_state": "soft_state", "hard_state": "hard_state", "entries": "[entry]", "snapshot": "snapshot"}
        | {"committed": "[entry]", "messages": "[message]", "read_states": "[read]"},
    ),
    "conf_applied": Record({"index": "int"}, {"conf": "conf", "err": "text"}),
    "unstable": Record(
        _keys("int", "offset offset_in_progress entries"), {"snapshot": "int", "snapshot_in_progress": "bool"}
    ),
    "internal": Record(
        _keys("int", "election_elapsed heartbeat_elapsed applying applying_size pending_conf_index uncommitted_size")
        | {"applying_paused": "bool", "unstable": "unstable"},
        {"read_queue": "[read]", "postponed_reads": "[text]"},
    ),
    "stored_state": Record(_keys("int", "first last term vote commit snapshot_index snapshot_term"), {}),
    "progress": Record(
        _keys("int", "match next pending_snapshot inflight inflight_bytes sent_commit")
        | _keys("bool", "paused flow_paused recent_active is_learner inflight_full")
        | {"state": "text"},
        {},
    ),
    "state": Record(
        _keys("int", "id term vote commit applied lead first_index last_index last_term lead_transferee")
        | _keys("int", "election_timeout pending_append pending_apply pending_local")
        | _keys("bool", "is_learner promotable has_ready awaiting_advance")
        | {"role": "text", "conf": "conf", "internal": "internal", "storage": "stored_state"},
        {"votes": "{bool}", "progress": "{progress}"},
    ),
    "out": Record(
        {"err": "error"},
        {"logs": "[text]", "detail": "text", "state": "state", "ready": "ready", "work": "message"}
        | {"sent": "[message]", "stepped": "[message]", "conf_applied": "[conf_applied]", "new_seq": "int"}
        | {"log": "[entry]", "stored": "[entry]"},
    ),
}

_NODE = {"op": "text", "id": "int"}
OPERATIONS: dict[str, Record] = {
    "new": Record(
        _NODE | {"config": "config"},
        {"snapshot": "snapshot", "hard_state": "hard_state", "applied": "int", "bootstrap": "[int]"},
    ),
    "restart": Record(_NODE | {"config": "config"}, {"applied": "int"}),
    "tick": Record(_NODE, {"n": "int"}),
    "propose": Record(_NODE | {"data": "payload"}, {}),
    "propose_conf_change": Record(_NODE | {"cc": "cc"}, {}),
    "read_index": Record(_NODE | {"ctx": "text"}, {}),
    "transfer_leader": Record(_NODE | {"to": "int"}, {}),
    "report_unreachable": Record(_NODE | {"to": "int"}, {}),
    "report_snapshot": Record(_NODE | {"to": "int", "ok": "bool"}, {}),
    "step": Record(_NODE | {"msg": "message"}, {}),
    "ready": Record(_NODE, {"advance": "switch"}),
    "deliver": Record(_NODE | {"seq": "int"}, {}),
    "drop": Record({"op": "text", "seq": "int"}, {}),
    "duplicate": Record({"op": "text", "seq": "int"}, {}),
    "send_snapshot": Record(_NODE | {"to": "int"}, {}),
    "process_append": Record(_NODE, {"hold": "bool"}),
    "process_apply": Record(_NODE, {"hold": "bool"}),
    "create_snapshot": Record(_NODE | {"index": "int"}, {}),
    "compact": Record(_NODE | {"index": "int"}, {}),
    "snapshot_available": Record(_NODE | {"ok": "bool"}, {}),
    **dict.fromkeys(("crash", "campaign", "forget_leader", "advance", "local", "log"), Record(_NODE, {})),
}
"""What each operation's line may say. `switch` is a boolean whose absence means true."""

_PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "bool": (bool,),
    "switch": (bool,),
    "text": (str,),
    "payload": (str,),
    "id": (int, str),
    "size": (int, type(None)),
    "error": (str, type(None)),
}
_ABSENT_ONLY_IF_NULL = frozenset({"payload", "switch"})


def normalise(kind: str, value: Any, path: str = "") -> Any:
    """The value with everything dropped that means the same as absence. Raises SchemaError."""
    if kind == "any":
        return value
    if kind in _PLAIN:
        # A JSON boolean is a Python int, so the exact class decides.
        if type(value) not in _PLAIN[kind]:
            raise SchemaError(path, f"{value!r} is not of kind {kind}")
        return value
    if kind.startswith("["):
        if not isinstance(value, list):
            raise SchemaError(path, f"{value!r} is not a list")
        return [normalise(kind[1:-1], item, f"{path}[{number}]") for number, item in enumerate(value)]
    if not isinstance(value, dict):
        raise SchemaError(path, f"{value!r} is not an object")
    if kind.startswith("{"):
        if odd := [key for key in value if not key.isdecimal()]:
            raise SchemaError(f"{path}.{odd[0]}", "the key is not a node id")
        return {key: normalise(kind[1:-1], item, f"{path}.{key}") for key, item in value.items()}
    return normalise_record(RECORDS[kind], value, path)


def normalise_record(record: Record, value: Json, path: str) -> Json:
    """`normalise` for one record, key by key."""
    for key in record.required:
        if key not in value:
            raise SchemaError(_join(path, key), "the key is missing")
    result: Json = {}
    for key, item in value.items():
        where = _join(path, key)
        kind = record.required.get(key) or record.optional.get(key)
        if kind is None:
            raise SchemaError(where, "the key is unknown")
        if key in record.required:
            result[key] = normalise(kind, item, where)
        elif item is not None:
            inner = normalise(kind, item, where)
            if inner or kind in _ABSENT_ONLY_IF_NULL:
                result[key] = inner
    return result


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
