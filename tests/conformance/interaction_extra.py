"""Commands that our own interaction scripts have beyond the reference's (tests/interaction/README.md)."""

from __future__ import annotations

from dataclasses import replace

from raftactors.core.messages import Message
from raftactors.core.types import Entry, Role
from tests.conformance import printing
from tests.conformance.datadriven_syntax import Directive, DirectiveError
from tests.conformance.interaction_options import CONFIG_OPTIONS, build_config, config_fields
from tests.conformance.interaction_world import Cluster
from tests.conformance.trace_format import MESSAGE_NAMES

MESSAGE_TYPES = {name: kind for kind, name in MESSAGE_NAMES.items()}
_NUMBERS = {
    "from": "sender",
    "to": "to",
    "term": "term",
    "log-term": "log_term",
    "index": "index",
    "commit": "commit",
    "hint": "reject_hint",
}


def check_config(cluster: Cluster, directive: Directive) -> None:
    """check-config [id=n] [options]"""
    node_id = int(directive.value("id", "1"))
    replace(build_config(directive), node_id=node_id)
    cluster.output.line("accepted")


def restart(cluster: Cluster, directive: Directive) -> None:
    """restart id [options]"""
    node = cluster.node(directive.one_id())
    cluster.restart_node(node.node_id, replace(node.config, **({"applied": 0} | config_fields(directive))))


def tick(cluster: Cluster, directive: Directive) -> None:
    """tick id n"""
    node_id, count = directive.ids()
    for _ in range(count):
        cluster.node(node_id).raw.tick()


def read_index(cluster: Cluster, directive: Directive) -> None:
    """read-index id context"""
    cluster.node(directive.one_id()).raw.read_index(directive.names()[1].encode())


def report_snapshot(cluster: Cluster, directive: Directive) -> None:
    """report-snapshot a b ok=bool"""
    node_id, target_id = directive.ids()
    cluster.node(node_id).raw.report_snapshot(target_id, directive.flag("ok"))


def snapshot_available(cluster: Cluster, directive: Directive) -> None:
    """snapshot-available id ok=bool"""
    cluster.node(directive.one_id()).storage.snapshot_available = directive.flag("ok")


def duplicate_msgs(cluster: Cluster, directive: Directive) -> None:
    """duplicate-msgs id"""
    node_id = directive.one_id()
    cluster.in_flight += [message for message in cluster.in_flight if message.to == node_id]


def step(cluster: Cluster, directive: Directive) -> None:
    """step id type=MsgX [fields]"""
    node = cluster.node(directive.one_id())
    numbers = {_NUMBERS[a.name]: int(directive.value(a.name)) for a in directive.arguments if a.name in _NUMBERS}
    message = Message(
        type=MESSAGE_TYPES[directive.value("type")],
        **({"to": node.node_id} | numbers),  # type: ignore[arg-type]
        entries=tuple(_entry(value) for value in directive.values("entries")),
        reject=directive.flag("reject"),
        context=directive.value("context").encode(),
    )
    cluster.output.line(printing.message_text(message))
    node.raw.step(message)


def _entry(text: str) -> Entry:
    """`term/index/payload`; without the last part the payload is absent."""
    term, index, *payload = text.split("/", 2)
    return Entry(int(term), int(index), payload[0].encode() if payload else None)


def node_status(cluster: Cluster, directive: Directive) -> None:
    """node-status id"""
    node = cluster.node(directive.one_id())
    status = node.raw.status()
    basic = node.raw.basic_status()
    role = printing.ROLE_NAMES[basic.soft_state.role]
    cluster.output.line(
        f"{basic.node_id}: {role} Lead:{basic.soft_state.leader_id} {printing.hard_state_text(basic.hard_state)} "
        f"Applied:{basic.applied} Transferee:{basic.transferee_id} {printing.membership_text(status.conf_state)}"
    )


def election_timeouts(cluster: Cluster, directive: Directive) -> None:
    """election-timeouts id draws=n"""
    raft = cluster.node(directive.one_id()).raw.raft
    drawn = set()
    for _ in range(int(directive.value("draws"))):
        raft.become_follower(raft.term + 1, 0)
        drawn.add(raft.randomized_election_timeout_ticks)
    cluster.output.line("drawn: " + " ".join(map(str, sorted(drawn))))


def become(cluster: Cluster, directive: Directive) -> None:
    """become id role"""
    raft = cluster.node(directive.one_id()).raw.raft
    transitions = {
        Role.PRE_CANDIDATE.value: raft.become_pre_candidate,
        Role.CANDIDATE.value: raft.become_candidate,
        Role.LEADER.value: raft.become_leader,
    }
    role = directive.names()[1]
    if role not in transitions:
        raise DirectiveError(f"{directive.text}: no transition to {role}")
    transitions[role]()


EXTRA_COMMANDS = {
    "become": (become, ()),
    "check-config": (check_config, ("id", *CONFIG_OPTIONS)),
    "duplicate-msgs": (duplicate_msgs, ()),
    "election-timeouts": (election_timeouts, ("draws",)),
    "node-status": (node_status, ()),
    "read-index": (read_index, ()),
    "report-snapshot": (report_snapshot, ("ok",)),
    "restart": (restart, CONFIG_OPTIONS),
    "snapshot-available": (snapshot_available, ("ok",)),
    "step": (step, ("type", *_NUMBERS, "entries", "reject", "context")),
    "tick": (tick, ()),
}
