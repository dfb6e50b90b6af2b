"""When a node has to believe that its own configuration is the wrong one. Pure: no I/O, no clock.

At most f of 2f+1 or 2f+2 members may be at fault, or Raft serves nobody. So when f+1 of the *other* members contradict
this node, at least one of them is right, and this node is not. Fewer could all be wrong: they are not believed, and a
member that lies or is misconfigured keeps no honest node down. f is taken of this node's own member list.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from raftactors.codec.frames import Welcome
from raftactors.config import NodeConfig, application_identity, split_address
from raftactors.errors import ConfigDisagreesError, ConfigError, NotAMemberError


class Topic(IntEnum):
    """What a member says differently; the first that applies counts, because the later ones follow from it."""

    CLUSTER = 1
    MEMBERSHIP = 2
    MEMBERS = 3
    ADDRESSES = 4
    APPLICATION = 5


class Contradiction(NamedTuple):
    """One member's answer that does not fit this node's configuration. `text` is a clause about that member."""

    topic: Topic
    text: str


_IDS_SHOWN_MAX = 32
_TEXT_SHOWN_MAX = 120

_WAYS_OUT = {
    Topic.CLUSTER: "give it the cluster_id and the addresses that the others have",
    Topic.MEMBERSHIP: "correct its node_id, or its members; the members of a cluster are fixed when it is created",
    Topic.MEMBERS: "give it the members that the others have; the members of a cluster are fixed when it is created",
    Topic.ADDRESSES: "write the same addresses into every member's configuration; change them while all are stopped",
    Topic.APPLICATION: "name the application that the others run",
}


def contradicting_max(config: NodeConfig) -> int:
    """f: how many of the other members may contradict this node without being believed."""
    return (len(config.members) - 1) // 2


def contradiction(config: NodeConfig, asked_id: int, welcome: Welcome) -> Contradiction | None:
    """What the node that answered at the client address of member `asked_id` has other than `config`, if anything."""
    return (
        _foreign(config, welcome) or _other_addresses(config, asked_id, welcome) or _other_application(config, welcome)
    )


def _foreign(config: NodeConfig, welcome: Welcome) -> Contradiction | None:
    if welcome.cluster_id != config.cluster_id:
        return Contradiction(Topic.CLUSTER, f"is in cluster {welcome.cluster_id}, not in {config.cluster_id}")
    theirs, ours = dict(welcome.members), _client_addresses(config)
    if config.node_id not in theirs:
        return Contradiction(Topic.MEMBERSHIP, f"has the members {_ids(theirs)}, without node {config.node_id}")
    if theirs.keys() != ours.keys():
        return Contradiction(Topic.MEMBERS, f"has the members {_ids(theirs)}, not {_ids(ours)}")
    return None


def _other_addresses(config: NodeConfig, asked_id: int, welcome: Welcome) -> Contradiction | None:
    theirs, ours = dict(welcome.members), _client_addresses(config)
    if welcome.node_id != asked_id:
        return Contradiction(Topic.ADDRESSES, f"answers as node {welcome.node_id} at {ours[asked_id]}")
    moved = [node_id for node_id in sorted(ours) if _plain(theirs[node_id]) != _plain(ours[node_id])]
    if moved:
        text = f"has node {moved[0]} at {_shown(theirs[moved[0]])} for clients, not at {ours[moved[0]]}"
        return Contradiction(Topic.ADDRESSES, text)
    return None


def _other_application(config: NodeConfig, welcome: Welcome) -> Contradiction | None:
    if application_identity(welcome.application) != application_identity(config.application):
        return Contradiction(Topic.APPLICATION, f"runs {_shown(welcome.application)}, not {config.application}")
    return None


def contradictions(config: NodeConfig, answers: Mapping[int, Welcome]) -> dict[int, Contradiction]:
    """The contradictions among the answers, by the member that was asked. This node's own answer says nothing."""
    found = {
        node_id: contradiction(config, node_id, welcome)
        for node_id, welcome in sorted(answers.items())
        if node_id != config.node_id
    }
    return {node_id: contradiction for node_id, contradiction in found.items() if contradiction is not None}


def verdict(config: NodeConfig, found: Mapping[int, Contradiction]) -> ConfigError | None:
    """The error to end with when more than f other members contradict this node, else None.

    It is about what most of them say, and of what is said equally often, about the topic that comes first.
    """
    if len(found) <= contradicting_max(config):
        return None
    topics = [contradiction.topic for contradiction in found.values()]
    topic = min(set(topics), key=lambda topic: (-topics.count(topic), topic))
    said = describe(found)
    if topic is Topic.MEMBERSHIP:
        return NotAMemberError(f"node {config.node_id} is not a member of this cluster: {said}; {_WAYS_OUT[topic]}")
    return ConfigDisagreesError(
        f"the configuration of node {config.node_id} disagrees with the cluster's: {said}; {_WAYS_OUT[topic]}"
    )


def describe(found: Mapping[int, Contradiction]) -> str:
    """What the members say, in one line."""
    return ", ".join(f"node {node_id} {contradiction.text}" for node_id, contradiction in found.items())


def _client_addresses(config: NodeConfig) -> dict[int, str]:
    return {member.node_id: member.client_address for member in config.members}


def _ids(members: Mapping[int, str]) -> str:
    more = ["..."] if len(members) > _IDS_SHOWN_MAX else []
    return ", ".join([*map(str, sorted(members)[:_IDS_SHOWN_MAX]), *more])


def _shown(text: str) -> str:
    """Text from outside as part of a line: not too long, and nothing that moves a cursor."""
    return "".join(character if character.isprintable() else "?" for character in text[:_TEXT_SHOWN_MAX])


def _plain(address: str) -> tuple[str, int]:
    """The address without the freedom of its spelling; a name is not looked up."""
    try:
        host, port = split_address("client_address", address)
    except ConfigError:
        return address, 0
    try:
        return str(ipaddress.ip_address(host.strip("[]"))), port
    except ValueError:
        return host.lower(), port
