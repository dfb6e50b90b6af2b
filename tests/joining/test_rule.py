"""When a node believes the others: the table of contradictions, and how many it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftactors.codec.frames import Welcome
from raftactors.config import Member, NodeConfig
from raftactors.errors import ConfigDisagreesError, ExitCode, NotAMemberError
from raftactors.joining.rule import Topic, contradiction, contradictions, verdict


def configure(*ids: int, me: int = 1, cluster_id: int = 7, application: str = "bank:Bank") -> NodeConfig:
    members = tuple(
        Member(node_id=number, peer_address=f"10.0.0.{number}:7400", client_address=f"10.0.0.{number}:7401")
        for number in ids
    )
    return NodeConfig(
        cluster_id=cluster_id, node_id=me, data_dir=Path("/unused"), members=members, application=application
    )


def welcome_of(config: NodeConfig, node_id: int) -> Welcome:
    """What a member answers that has this configuration."""
    members = [(member.node_id, member.client_address) for member in config.members]
    return Welcome(node_id, 0, members, {}, config.application, config.cluster_id)


SAME = configure(1, 2, 3)


@pytest.mark.parametrize(
    ("theirs", "topic", "text"),
    [
        (SAME, None, ""),
        (configure(1, 2, 3, cluster_id=8), Topic.CLUSTER, "is in cluster 8, not in 7"),
        (configure(2, 3, 4, me=2), Topic.MEMBERSHIP, "has the members 2, 3, 4, without node 1"),
        (configure(1, 2), Topic.MEMBERS, "has the members 1, 2, not 1, 2, 3"),
        (configure(1, 2, 3, 4), Topic.MEMBERS, "has the members 1, 2, 3, 4, not 1, 2, 3"),
        (configure(1, 2, 3, application="shop:Shop"), Topic.APPLICATION, "runs shop:Shop, not bank:Bank"),
        (configure(1, 2, 3, application="/srv/of ann/bank.py:Bank"), None, ""),
    ],
)
def test_contradictions(theirs: NodeConfig, topic: Topic | None, text: str) -> None:
    found = contradiction(SAME, 2, welcome_of(theirs, 2))
    assert (found.topic if found else None) == topic
    assert (found.text if found else "") == text


def test_another_node_answers_at_the_address() -> None:
    found = contradiction(SAME, 2, welcome_of(SAME, 3))
    assert found is not None
    assert found.topic is Topic.ADDRESSES
    assert found.text == "answers as node 3 at 10.0.0.2:7401"


@pytest.mark.parametrize(
    ("address", "differs"),
    [
        ("10.0.0.3:7401", False),
        ("10.0.0.3:7402", True),
        ("10.0.0.4:7401", True),
        ("host:7401", True),
        ("nonsense", True),
        ("\x1b[2J" * 1000, True),
    ],
)
def test_addresses(address: str, differs: bool) -> None:
    members = [(1, "10.0.0.1:7401"), (2, "10.0.0.2:7401"), (3, address)]
    found = contradiction(SAME, 2, welcome_of(SAME, 2)._replace(members=members))
    assert (found is not None) == differs
    if found is not None:
        assert found.topic is Topic.ADDRESSES
        assert found.text.isprintable(), "what a member sends must not steer a terminal"
        assert len(found.text) < 300


def test_equal_addresses_may_be_spelled_differently() -> None:
    ours = Member(node_id=2, peer_address="[::1]:1", client_address="[0:0::1]:7401")
    config = NodeConfig(cluster_id=7, node_id=1, data_dir=Path("/unused"), members=(SAME.members[0], ours))
    members = [(1, "10.0.0.1:07401"), (2, "[::1]:7401")]
    assert contradiction(config, 2, welcome_of(config, 2)._replace(members=members)) is None


FOREIGN = configure(1, 2, 3, 4, 5, 6, 7, cluster_id=8)


@pytest.mark.parametrize(
    ("size", "contradicting", "ends"),
    [
        (1, 0, False),
        (2, 0, False),
        (2, 1, True),
        (3, 1, False),
        (3, 2, True),
        (4, 1, False),
        (4, 2, True),
        (5, 2, False),
        (5, 3, True),
        (7, 3, False),
        (7, 4, True),
        (7, 6, True),
    ],
)
def test_more_than_f_of_the_others_are_believed(size: int, contradicting: int, ends: bool) -> None:
    config = configure(*range(1, size + 1))
    answers = {
        number: welcome_of(FOREIGN if number <= contradicting + 1 else config, number) for number in range(2, size + 1)
    }
    error = verdict(config, contradictions(config, answers))
    assert (error is not None) == ends
    if error is not None:
        assert isinstance(error, ConfigDisagreesError)
        assert error.exit_code == ExitCode.CONFIG_DISAGREES
        assert "is in cluster 8, not in 7" in str(error)
        assert "give it the cluster_id" in str(error)


def test_silence_is_no_contradiction() -> None:
    """One that contradicts, and one that does not answer: the silent one might agree."""
    assert verdict(SAME, contradictions(SAME, {2: welcome_of(FOREIGN, 2)})) is None


def test_a_node_does_not_contradict_itself() -> None:
    assert contradictions(SAME, {1: welcome_of(FOREIGN, 1)}) == {}


def test_no_member() -> None:
    config, cluster = configure(1, 2, 3, 4, me=4), configure(1, 2, 3)
    error = verdict(config, contradictions(config, {number: welcome_of(cluster, number) for number in (1, 2, 3)}))
    assert isinstance(error, NotAMemberError)
    assert error.exit_code == ExitCode.NOT_A_MEMBER
    assert "node 4 is not a member of this cluster: node 1 has the members 1, 2, 3, without node 4" in str(error)


def test_the_error_is_about_what_most_say() -> None:
    config = configure(1, 2, 3, 4, me=4)
    strangers, other = configure(1, 2, 3), configure(1, 2, 3, 4, me=4, application="shop:Shop")
    answers = {1: welcome_of(other, 1), 2: welcome_of(other, 2), 3: welcome_of(strangers, 3)}
    assert isinstance(verdict(config, contradictions(config, answers)), ConfigDisagreesError)
    answers[1] = welcome_of(strangers, 1)
    assert isinstance(verdict(config, contradictions(config, answers)), NotAMemberError)
