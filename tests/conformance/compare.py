"""Finds the first place where what happened departs from what a trace recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.conformance.trace_schema import Json, SchemaError, normalise


class _Absent:
    def __repr__(self) -> str:
        return "(absent)"


ABSENT: Final = _Absent()


@dataclass(frozen=True)
class Difference:
    """One departure: where, what the trace says, what happened."""

    path: str
    expected: Any
    actual: Any


# The reference's text for each refused configuration, and the fields our own text has to name.
CONFIG_RULES: dict[str, tuple[str, ...]] = {
    "cannot use none as id": ("node_id",),
    "cannot use local target as id": ("node_id",),
    "heartbeat tick must be greater than 0": ("heartbeat_ticks",),
    "election tick must be greater than heartbeat tick": ("election_ticks", "heartbeat_ticks"),
    "storage cannot be nil": ("storage",),
    "max inflight messages must be greater than 0": ("inflight_messages_max",),
    "max inflight bytes must be >= max message size": ("inflight_bytes_max", "bytes_per_message_max"),
    "CheckQuorum must be enabled when ReadOnlyOption is ReadOnlyLeaseBased": ("check_quorum",),
}


def compare_outputs(expected: Json, actual: Json) -> Difference | None:
    """The first difference between a recorded output and ours, or None.

    Log text (`logs`) is the only key that is left out. `detail`, the text of a refused configuration, is compared by
    its meaning: our text has to name the fields that the reference's rule is about.
    """
    try:
        wanted = normalise("out", expected)
    except SchemaError as error:
        return Difference(error.path, error.text, "(not compared)")
    wanted.pop("logs", None)
    found: Json = normalise("out", actual)
    wanted_detail, found_detail = wanted.pop("detail", ABSENT), found.pop("detail", ABSENT)
    return difference(wanted, found, "") or _detail_difference(wanted_detail, found_detail)


def _detail_difference(wanted: Any, found: Any) -> Difference | None:
    if wanted is ABSENT and found is ABSENT:
        return None
    fields = CONFIG_RULES.get(wanted) if isinstance(wanted, str) else None
    if fields is None or not isinstance(found, str) or not all(field in found for field in fields):
        return Difference("detail", wanted, found)
    return None


def difference(expected: Any, actual: Any, path: str) -> Difference | None:
    """The first difference of two JSON values, depth first; classes count, so 1 is not true."""
    if type(expected) is not type(actual):
        return Difference(path, expected, actual)
    if isinstance(expected, dict):
        for key in [*expected, *(key for key in actual if key not in expected)]:
            where = f"{path}.{key}" if path else key
            found = difference(expected.get(key, ABSENT), actual.get(key, ABSENT), where)
            if found is not None:
                return found
        return None
    if isinstance(expected, list):
        for number in range(max(len(expected), len(actual))):
            found = difference(_item(expected, number), _item(actual, number), f"{path}[{number}]")
            if found is not None:
                return found
        return None
    return None if expected == actual else Difference(path, expected, actual)


def _item(items: list[Any], number: int) -> Any:
    return items[number] if number < len(items) else ABSENT
