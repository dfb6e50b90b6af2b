"""The options with which scripts create nodes."""

from __future__ import annotations

import logging
import random
from typing import Any

from raftactors.core.config import RaftConfig, ReadOnlyOption
from raftactors.core.types import UNLIMITED, ConfState, HardState, Snapshot
from tests.conformance.datadriven_syntax import Directive, DirectiveError
from tests.conformance.interaction_world import HistoryStorage

_NUMBERS = {
    "inflight": "inflight_messages_max",
    "inflight-bytes": "inflight_bytes_max",
    "max-message-size": "bytes_per_message_max",
    "max-uncommitted-size": "uncommitted_bytes_max",
    "max-committed-size-per-ready": "committed_bytes_per_ready_max",
    "election-tick": "election_ticks",
    "heartbeat-tick": "heartbeat_ticks",
    "applied": "applied",
}
_SWITCHES = {
    "prevote": "pre_vote",
    "checkquorum": "check_quorum",
    "async-storage-writes": "async_storage_writes",
    "disable-conf-change-validation": "disable_conf_change_validation",
    "disable-proposal-forwarding": "disable_proposal_forwarding",
    "step-down-on-removal": "step_down_on_removal",
}
_READ_ONLY = {"safe": ReadOnlyOption.SAFE, "lease-based": ReadOnlyOption.LEASE_BASED}

CONFIG_OPTIONS = (*_NUMBERS, *_SWITCHES, "read-only")
STORAGE_OPTIONS = ("voters", "learners", "index", "content", "term", "vote", "commit")


def config_fields(directive: Directive) -> dict[str, Any]:
    """The configuration fields that the directive's options set."""
    fields: dict[str, Any] = {}
    for argument in directive.arguments:
        value = directive.value(argument.name)
        if argument.name in _NUMBERS:
            fields[_NUMBERS[argument.name]] = int(value)
        elif argument.name in _SWITCHES:
            fields[_SWITCHES[argument.name]] = directive.flag(argument.name)
        elif argument.name == "read-only":
            fields["read_only_option"] = _READ_ONLY[value]
    return fields


def default_fields() -> dict[str, Any]:
    """What a node is configured with when a script says nothing else."""
    return {
        "node_id": 1,
        "election_ticks": 3,
        "heartbeat_ticks": 1,
        "storage": HistoryStorage(Snapshot()),
        "inflight_messages_max": 2**31 - 1,
        "bytes_per_message_max": UNLIMITED,
        "random": random.Random(1),
        "logger": logging.getLogger(__name__),
    }


def build_config(directive: Directive) -> RaftConfig:
    """The configuration that a directive asks for. Raises ConfigError."""
    fields = default_fields() | config_fields(directive)
    index = int(directive.value("index", "0"))
    return RaftConfig(**({"applied": index} | fields))


def build_storage(directive: Directive) -> HistoryStorage:
    """The storage that a directive asks for: a snapshot, perhaps a hard state, or nothing at all."""
    names = {argument.name for argument in directive.arguments}
    storage = HistoryStorage(_first_snapshot(directive, names))
    if names & {"term", "vote", "commit"}:
        term, vote, commit = (int(directive.value(name, "0")) for name in ("term", "vote", "commit"))
        storage.set_hard_state(HardState(term, vote, commit))
    return storage


def _first_snapshot(directive: Directive, names: set[str]) -> Snapshot:
    if not names & {"voters", "learners", "index", "content"}:
        return Snapshot()
    index = int(directive.value("index", "0"))
    if index <= 1:
        raise DirectiveError(f"{directive.text}: index must be greater than 1")
    conf = ConfState(
        voters=tuple(sorted(map(int, directive.values("voters")))),
        learners=tuple(sorted(map(int, directive.values("learners")))),
    )
    return Snapshot(index=index, term=1, conf_state=conf, data=directive.value("content").encode())
