"""The in-process network does what the test says and nothing else."""

from __future__ import annotations

import random
import select

import pytest

from raftactors.core.messages import Message, MessageType
from raftactors.transport import MemoryNetwork, PeerTransport
from tests.transport.peers import heartbeat


@pytest.fixture
def network(request: pytest.FixtureRequest) -> MemoryNetwork:
    made = MemoryNetwork([1, 2, 3])
    for node_id in (1, 2, 3):
        request.addfinalizer(made.transport(node_id).close)
    return made


def commits(transport: PeerTransport) -> list[int]:
    return [message.commit for message in transport.receive(100)]


def send(network: MemoryNetwork, *numbers: int) -> None:
    assert network.transport(1).send([heartbeat(1, 2, number) for number in numbers]) == []


def test_nothing_moves_before_it_is_delivered(network: MemoryNetwork) -> None:
    send(network, 1, 2)
    assert commits(network.transport(2)) == []
    assert [parcel.message.commit for parcel in network.in_flight] == [1, 2]
    assert network.deliver_all() == 2
    assert commits(network.transport(2)) == [1, 2]
    assert network.in_flight == ()


def test_drop_duplicate_and_reorder(network: MemoryNetwork) -> None:
    send(network, 1, 2, 3, 4)
    network.drop(1)
    network.duplicate(0)
    network.move(2, 0)
    network.deliver_all()
    assert commits(network.transport(2)) == [4, 1, 3, 1]


def test_a_seed_gives_one_order(network: MemoryNetwork) -> None:
    orders = []
    for _ in range(2):
        send(network, *range(20))
        network.shuffle(random.Random(7))
        network.deliver_all()
        orders.append(commits(network.transport(2)))
    assert orders[0] == orders[1] != sorted(orders[0])


def test_cut_directions_are_unreachable_and_lose_what_is_in_flight(network: MemoryNetwork) -> None:
    send(network, 1)
    network.cut(1, 2)
    network.deliver_all()
    assert commits(network.transport(2)) == []
    assert network.transport(1).send([heartbeat(1, 2, 2), heartbeat(1, 3, 2)]) == [2]
    assert network.transport(2).send([heartbeat(2, 1, 2)]) == []
    assert network.transport(1).connected() == network.transport(2).connected() - {1} == {3}
    network.heal()
    assert network.transport(1).connected() == {2, 3}
    network.transport(3).close()
    assert network.transport(1).send([heartbeat(1, 3, 2)]) == [3]
    assert network.transport(1).connected() == {2}


def test_what_the_wire_refuses_is_refused(network: MemoryNetwork) -> None:
    sender = network.transport(1)
    assert sender.send([Message(MessageType.SNAP, to=2, sender=1, term=1), heartbeat(1, 9, 1)]) == [2, 9]
    assert sender.send([heartbeat(1, 1, 1)]) == [1]
    assert sender.drops == {"outbound_kind": 1}


def test_a_delivery_wakes_a_poll_until_everything_is_taken(network: MemoryNetwork) -> None:
    receiver = network.transport(2)
    send(network, 1, 2)
    assert select.select(receiver.sockets(), [], [], 0)[0] == []
    network.deliver_all()
    assert len(receiver.receive(1)) == 1
    assert select.select(receiver.sockets(), [], [], 0)[0] == receiver.sockets()
    assert len(receiver.receive(1)) == 1
    assert select.select(receiver.sockets(), [], [], 0)[0] == []


def test_automatic_delivery_is_at_once() -> None:
    network = MemoryNetwork([1, 2], automatic=True)
    try:
        send(network, 1)
        assert commits(network.transport(2)) == [1]
    finally:
        network.transport(1).close()
        network.transport(2).close()
