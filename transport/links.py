"""All connections between this node and the other members for one purpose: greetings, beats, silence, renewal.

A member proves itself by its address (`hello`), and stays connected as long as something comes from it: each node
sends a beat on a link that has carried nothing for `BEAT_S`. A member that is silent for SILENCE_MS_MAX counts as
gone: its connection is ended and the link to it made anew, so that nothing waits in queues that lead nowhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import zmq

from raftactors.config import Limits
from raftactors.errors import DataLostError
from raftactors.transport.allowance import peer_allowance
from raftactors.transport.connections import ConnectionAccount
from raftactors.transport.dealer import HELLO_PAUSE_S, PeerLink
from raftactors.transport.envelope import ENVELOPE_BYTES, Envelope, EnvelopeGate, PeerKind, encode_envelope
from raftactors.transport.hello import Hello, encode_hello, encode_hello_wanted
from raftactors.transport.listener import Listener
from raftactors.transport.options import SILENCE_MS_MAX, peer_listener_options
from raftactors.transport.router import PeerListener

log = logging.getLogger("raftactors.node")

BEAT_S = 0.4
"""A link that has carried nothing for this long carries a beat."""

TEND_EVERY_S = 0.1
"""Between two looks at least: a tick may be far shorter."""

STEP_S_MAX = 0.25
"""What one `tend` counts at most: while this process itself stood still, nobody else was silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPlan:
    """Who this node is, where it listens (with the name of that field in the configuration), where the others are."""

    cluster_id: int
    node_id: int
    incarnation: int
    listen_name: str
    listen_address: str
    addresses: Mapping[int, str]
    limits: Limits


class MemberLinks:
    """One listener for what comes in, one link a member for what goes out, for frames of one kind.

    Every method belongs to the thread that polls, except that the guard's work on `account` has a thread of its own.
    """

    def __init__(
        self,
        plan: LinkPlan,
        kind: PeerKind,
        gate_type: type[EnvelopeGate] = EnvelopeGate,
        *,
        context: zmq.Context[Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind at once. Raises AddressInUseError or ConfigError naming the address."""
        self.body_bytes_max = plan.limits.peer_frame_bytes_max - ENVELOPE_BYTES
        self._plan = plan
        self._kind = kind
        self._magic = gate_type.MAGIC
        self._clock = clock
        self._awake_s = 0.0
        self._tended_s = clock()
        self._heard_s: dict[int, float] = {}
        self._unproven: set[int] = set()
        self._challenged_s: dict[int, float] = {}
        self.gate = gate_type(
            cluster_id=plan.cluster_id,
            node_id=plan.node_id,
            peers=plan.addresses.keys(),
            kinds=(PeerKind.HELLO, PeerKind.HELLO_WANTED, PeerKind.BEAT, kind),
            body_bytes_max=self.body_bytes_max,
        )
        listener = Listener(
            context,
            name=plan.listen_name,
            address=plan.listen_address,
            options=peer_listener_options(plan.limits),
            allowance=peer_allowance(plan.limits),
        )
        self._inbound = PeerListener(listener, self.gate, plan.addresses)
        self._links: dict[int, PeerLink] = {}
        try:
            for peer_id, address in plan.addresses.items():
                self._links[peer_id] = PeerLink(
                    context,
                    peer_id=peer_id,
                    address=address,
                    hello=partial(self._hello, peer_id),
                    limits=plan.limits,
                    clock=clock,
                )
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """The address bound, `host:port`."""
        return self._inbound.listener.address

    @property
    def account(self) -> ConnectionAccount:
        """The connections of the listener, for the guard."""
        return self._inbound.listener.account

    def sockets(self) -> list[zmq.Socket[bytes]]:
        """The inbound socket and the monitors of the outbound ones; all are only ever polled for input."""
        return [self._inbound.listener.socket, *(link.monitor for link in self._links.values())]

    def receive(self, limit: int) -> list[tuple[Envelope, memoryview]]:
        """Frames of confirmed members, out of at most `limit` that have arrived; sees to greetings. Never waits.

        Raises DataLostError when a member has known a later incarnation of this node than this one.
        """
        arrivals = self._inbound.receive(limit)
        for link in self._links.values():
            link.observe()
        for peer_id in arrivals.heard:
            self._heard_s[peer_id] = self._awake_s
        self._unproven |= arrivals.unproven
        if arrivals.recalled:
            self._take_confirmed(arrivals.recalled)
        for peer_id, challenge in arrivals.asking.items():
            self._links[peer_id].answer(challenge)
        if self._unproven:
            self._challenge()
        return arrivals.frames

    def send(self, to: int, body: bytes) -> bool:
        """Send one frame; False without a connection, with a full queue, or for a member that is not linked."""
        link = self._links.get(to)
        return link is not None and link.send(self._frame(self._kind, to, body))

    def is_linked(self, to: int) -> bool:
        """Whether the member is one that this node connects to."""
        return to in self._links

    def is_ready(self, to: int) -> bool:
        """Whether a frame could go out to the member, as far as its link was observed; `send` looks again."""
        return self._links[to].ready

    def connected(self) -> set[int]:
        """Members that we have greeted on a living connection and that have proved themselves to us."""
        for link in self._links.values():
            link.observe()
        return {peer_id for peer_id in self._inbound.confirmed if self.is_ready(peer_id)}

    def tend(self) -> None:
        """Send the beats that are due and give silent members up; to be called every tick, and works less often."""
        now_s = self._clock()
        if now_s - self._tended_s < TEND_EVERY_S:
            return
        self._awake_s += min(now_s - self._tended_s, STEP_S_MAX)
        self._tended_s = now_s
        if self._unproven:
            self._challenge()
        for peer_id, link in self._links.items():
            link.observe()
            heard_s = self._heard_s.get(peer_id)
            if heard_s is not None and (self._awake_s - heard_s) * 1000 > SILENCE_MS_MAX:
                log.warning("node %d was silent for %d ms; connecting to it anew", peer_id, SILENCE_MS_MAX)
                del self._heard_s[peer_id]
                self._inbound.forget(peer_id)
                link.renew()
            elif link.ready and now_s - link.sent_s >= BEAT_S:
                link.send(self._frame(PeerKind.BEAT, peer_id, b""))

    def close(self) -> None:
        """Drop what is unsent and release all sockets; the context stays the caller's."""
        for link in self._links.values():
            link.close()
        self._inbound.close()

    def _take_confirmed(self, recalled: Mapping[int, int]) -> None:
        self._unproven.difference_update(recalled)
        for peer_id, known in recalled.items():
            if known > self._plan.incarnation:
                raise DataLostError(
                    f"node {peer_id} has known this node at incarnation {known}, and this data folder has come to "
                    f"{self._plan.incarnation}: its data is lost or an old copy; put the right folder back, or make it "
                    "anew with `raftactors rebuild`"
                )

    def _challenge(self) -> None:
        """Ask those that have not proved themselves to do so, as soon as there is a link on which to ask."""
        now_s = self._clock()
        for peer_id in list(self._unproven):
            if now_s - self._challenged_s.get(peer_id, -HELLO_PAUSE_S) < HELLO_PAUSE_S:
                continue
            body = encode_hello_wanted(self._inbound.challenges[peer_id])
            if self._links[peer_id].challenge(self._frame(PeerKind.HELLO_WANTED, peer_id, body)):
                self._challenged_s[peer_id] = now_s
                self._unproven.discard(peer_id)

    def _hello(self, peer_id: int, answer: int) -> bytes:
        hello = Hello(answer=answer, known_incarnation=self.gate.incarnations.get(peer_id, 0))
        return self._frame(PeerKind.HELLO, peer_id, encode_hello(hello))

    def _frame(self, kind: PeerKind, to: int, body: bytes) -> bytes:
        plan = self._plan
        return encode_envelope(self._magic, Envelope(kind, plan.cluster_id, to, plan.node_id, plan.incarnation), body)
