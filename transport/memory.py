"""A network inside one process, for tests and simulations: nothing moves unless it is told to.

Messages pass through the same codec as on a socket, so whatever the wire would refuse is refused here too.
"""

from __future__ import annotations

import random
import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from raftactors.codec.raft import decode_message, encode_message
from raftactors.core.messages import Message
from raftactors.errors import WireError
from raftactors.transport.wakeup import Wakeup


class Parcel(NamedTuple):
    """A message on its way; `sender` is the node that handed it over."""

    sender: int
    to: int
    message: Message


class MemoryNetwork:
    """The cables between the `MemoryTransport`s of `node_ids`.

    What is sent waits in `in_flight`, oldest first, until `deliver`, `drop`, `duplicate`, `move` or `shuffle` says what
    becomes of it; with `automatic` it is delivered at once. Any thread may call anything.
    """

    def __init__(self, node_ids: Iterable[int], *, automatic: bool = False) -> None:
        self._lock = threading.RLock()
        self._automatic = automatic
        self._parcels: list[Parcel] = []
        self._cuts: set[tuple[int, int]] = set()
        self._transports = {node_id: MemoryTransport(self, node_id) for node_id in node_ids}

    def transport(self, node_id: int) -> MemoryTransport:
        """The end of `node_id`."""
        return self._transports[node_id]

    @property
    def in_flight(self) -> tuple[Parcel, ...]:
        """What has been sent and neither delivered nor dropped."""
        with self._lock:
            return tuple(self._parcels)

    def deliver(self, position: int = 0) -> Parcel:
        """Hand the parcel at `position` of `in_flight` to its addressee; lost if the direction is cut meanwhile."""
        with self._lock:
            parcel = self._parcels.pop(position)
            if self.reachable(parcel.sender, parcel.to):
                self._transports[parcel.to].take_in(parcel.message)
            return parcel

    def deliver_all(self) -> int:
        """Deliver what is in flight now, in order; returns how many. What is sent in answer stays in flight."""
        with self._lock:
            count = len(self._parcels)
            for _ in range(count):
                self.deliver()
            return count

    def drop(self, position: int = 0) -> Parcel:
        """Lose the parcel at `position`."""
        with self._lock:
            return self._parcels.pop(position)

    def duplicate(self, position: int = 0) -> None:
        """Put a second copy of the parcel at `position` behind everything else."""
        with self._lock:
            self._parcels.append(self._parcels[position])

    def move(self, position: int, to_position: int) -> None:
        """Let the parcel at `position` overtake, or fall behind, so that it stands at `to_position`."""
        with self._lock:
            self._parcels.insert(to_position, self._parcels.pop(position))

    def shuffle(self, rng: random.Random) -> None:
        """Reorder everything in flight; the same seed gives the same order."""
        with self._lock:
            rng.shuffle(self._parcels)

    def cut(self, sender: int, to: int) -> None:
        """Make `to` unreachable for `sender`; the other direction stays."""
        with self._lock:
            self._cuts.add((sender, to))

    def heal(self) -> None:
        """Undo all cuts."""
        with self._lock:
            self._cuts.clear()

    def reachable(self, sender: int, to: int) -> bool:
        """Whether `to` exists, is open and not cut off from `sender`."""
        with self._lock:
            transport = self._transports.get(to)
            return transport is not None and not transport.closed and (sender, to) not in self._cuts

    def reachable_both_ways(self, node_id: int) -> set[int]:
        """The nodes that `node_id` could send to and hear from now."""
        with self._lock:
            return {
                other
                for other in self._transports
                if other != node_id and self.reachable(node_id, other) and self.reachable(other, node_id)
            }

    def hand_over(self, parcel: Parcel) -> bool:
        """Take a parcel from its sender; False if the addressee is unreachable now."""
        with self._lock:
            if parcel.to == parcel.sender or not self.reachable(parcel.sender, parcel.to):
                return False
            if self._automatic:
                self._transports[parcel.to].take_in(parcel.message)
            else:
                self._parcels.append(parcel)
            return True


class MemoryTransport:
    """One node's end of a `MemoryNetwork`, with the methods of `PeerTransport`."""

    def __init__(self, network: MemoryNetwork, node_id: int) -> None:
        self.closed = False
        self._network = network
        self._node_id = node_id
        self._inbox: deque[Message] = deque()
        self._wakeup = Wakeup()
        self._drops: Counter[str] = Counter()

    @property
    def drops(self) -> dict[str, int]:
        """How many messages were dropped, by reason; a copy."""
        return dict(self._drops)

    def sockets(self) -> list[Wakeup]:
        """What to poll for input."""
        return [self._wakeup]

    def receive(self, limit: int) -> list[Message]:
        """At most `limit` messages that were delivered. Never waits."""
        self._wakeup.clear()
        messages = [self._inbox.popleft() for _ in range(min(limit, len(self._inbox)))]
        if self._inbox:
            self._wakeup.signal()
        return messages

    def send(self, messages: Sequence[Message]) -> list[int]:
        """Put the messages in flight; returns the ids of the unreachable, and of those whose message cannot travel."""
        unreachable: dict[int, None] = {}
        for message in messages:
            try:
                body = encode_message(message)
                copy = decode_message(body, kind=message.type, to=message.to, sender=self._node_id)
            except WireError as error:
                self._drops[f"outbound_{error.reason}"] += 1
                unreachable[message.to] = None
                continue
            if not self._network.hand_over(Parcel(self._node_id, message.to, copy)):
                unreachable[message.to] = None
        return list(unreachable)

    def connected(self) -> set[int]:
        """The nodes that are reachable both ways."""
        return self._network.reachable_both_ways(self._node_id)

    def tend(self) -> None:
        """Nothing to see to: nobody is silent here."""

    def close(self) -> None:
        """Become unreachable and release the descriptor; a second call does nothing."""
        self.closed = True
        self._wakeup.close()

    def take_in(self, message: Message) -> None:
        """Called by the network alone: what arrives here."""
        self._inbox.append(message)
        self._wakeup.signal()
