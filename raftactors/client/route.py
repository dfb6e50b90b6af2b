"""Which node the sessions of a client talk to: discovery, leader hints, doubts and moves. No I/O, no clock."""

from __future__ import annotations

import random
from collections.abc import Sequence

from raftactors.client.options import ClientOptions, NodeLimits
from raftactors.codec.frames import Welcome
from raftactors.config import Limits, split_address
from raftactors.errors import ConfigError, RejectedError

_NEVER = -(2**62)

ENDPOINTS_MAX = 64
"""Addresses that a client keeps, given and learned; each costs a connection when it is used."""

GREETING_RETRY_MS = 250
"""After this long without a WELCOME a node is greeted again."""

UNSENT_RETRY_MS = 5
"""A greeting that could not be handed to the network, mostly because the connection is not up, is tried again."""


class Endpoint:
    """One address. `node_id` is 0 until a WELCOME told it; `foreign` says why the node there is not one of ours."""

    __slots__ = (
        "address",
        "foreign",
        "greet_at_ms",
        "incarnation",
        "node_id",
        "suspect_until_ms",
        "wanted",
        "welcomed",
    )

    def __init__(self, address: str) -> None:
        self.address = address
        self.node_id = 0
        self.incarnation = 0
        self.welcomed = False
        self.wanted = False
        self.greet_at_ms = _NEVER
        self.suspect_until_ms = _NEVER
        self.foreign = ""


class Route:
    """Follows the leader.

    One endpoint is the target. `generation` grows with each move; whoever has sent something under an older one sends
    it again. A node is greeted with HELLO and used only after its WELCOME. A target that owes an answer is first
    doubted (others are greeted in turn, and their word about the leader counts), then left and avoided for a while.
    `trouble` is why this process itself cannot connect, for the texts of errors.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        options: ClientOptions,
        random_source: random.Random,
        cluster_id: int | None = None,
        frame_bytes_max: int = Limits().client_frame_bytes_max,
    ) -> None:
        if not addresses or isinstance(addresses, str):
            raise ConfigError("addresses must be a sequence with at least one HOST:PORT")
        if len(addresses) > ENDPOINTS_MAX:
            raise ConfigError(f"{len(addresses)} addresses; give at most {ENDPOINTS_MAX}, some of the nodes are enough")
        for address in addresses:
            if type(address) is not str:
                raise ConfigError(f"the address {address!r} is no text; write it as HOST:PORT")
            split_address("address", address)
        if cluster_id is not None and not 1 <= cluster_id < 2**63:
            raise ConfigError(f"cluster_id is {cluster_id}; it must be from 1 to {2**63 - 1}, or None for any")
        self.cluster_id = cluster_id or 0
        self.application = ""
        self.limits: NodeLimits | None = None
        self.option_arguments: frozenset[tuple[str, str]] = frozenset()
        self.trouble = ""
        self.leader_id = 0
        self.generation = 1
        self.endpoints = [Endpoint(address) for address in dict.fromkeys(addresses)]
        self._by_address = {endpoint.address: endpoint for endpoint in self.endpoints}
        self._addresses_by_id: dict[int, str] = {}
        self._options = options
        self._frame_bytes_max = frame_bytes_max
        self._target = random_source.choice(self.endpoints)
        self._probe = self._target
        self._targeted_at_ms: int | None = None
        self._doubted = False
        self._missed = False  # The target owes an answer of its own, to what no session asked.
        self._probe_at_ms = _NEVER
        self._served = False
        self._heir: Endpoint | None = None

    # --- for the sessions ---

    @property
    def ready(self) -> Endpoint | None:
        """The node to send to; None while it has not answered the greeting."""
        return self._target if self._target.welcomed else None

    @property
    def refusal(self) -> RejectedError | None:
        """Why no request can ever be sent: every address belongs to another cluster."""
        if all(endpoint.foreign for endpoint in self.endpoints):
            return RejectedError("; ".join(endpoint.foreign for endpoint in self.endpoints))
        return None

    @property
    def welcomed(self) -> bool:
        """Whether any node has answered yet, and has told of the members and of the application."""
        return self.limits is not None

    def describe(self) -> str:
        """What was tried, for the text of an error."""
        tried = ", ".join(
            f"{endpoint.address} ({endpoint.foreign or ('answers' if endpoint.welcomed else 'no answer')})"
            for endpoint in self.endpoints
        )
        return f"{tried}; {self.trouble}" if self.trouble and self.ready is None else tried

    def hint(self, leader_id: int, now_ms: int) -> None:
        """A node answered that `leader_id` leads (0: it knows none): go there unless it was silent a moment ago."""
        if leader_id == 0:
            self.doubt(now_ms)
            return
        self.leader_id = leader_id
        endpoint = self._by_address.get(self._addresses_by_id.get(leader_id, ""))
        if endpoint is None or endpoint is self._target or endpoint.suspect_until_ms > now_ms:
            return
        if self._served and not endpoint.welcomed:
            # The present node works; it is given up when the other one has answered, so that nothing stalls if not.
            endpoint.wanted, self._heir = True, endpoint
            return
        self._move(endpoint, now_ms)

    def doubt(self, now_ms: int) -> None:
        """The target owes an answer or knows no leader: ask the other nodes in turn."""
        if not self._doubted:
            self._doubted = True
            self._probe_at_ms = max(self._probe_at_ms, now_ms)

    def settled(self) -> None:
        """The target gave a result: stop asking others, unless it only hands on what we send."""
        self._served = True
        self._doubted = self._target.node_id != self.leader_id

    def lost(self, endpoint: Endpoint, now_ms: int) -> None:
        """A node owes an answer of its own: it may have been restarted, so it is greeted before it is used again.

        The target is only doubted, which greets it too: whether it is left is decided by what the sessions get.
        """
        if endpoint is not self._target:
            endpoint.welcomed = False
        elif not self._missed:
            self._missed = True
            self._probe_at_ms = max(self._probe_at_ms, now_ms)

    def answered(self, endpoint: Endpoint) -> None:
        """A node has given an answer of its own."""
        if endpoint is self._target:
            self._missed = False

    def abandon(self, generation: int, now_ms: int) -> None:
        """The target was silent for too long: take the next node. Ignored if the route moved since `generation`."""
        if generation != self.generation:
            return
        self._target.welcomed = False
        self._target.greet_at_ms = _NEVER
        self._target.suspect_until_ms = now_ms + 2 * self._options.silence_ms
        self._move(self._after(self._target, now_ms), now_ms)

    # --- for the driver ---

    def poll(self, now_ms: int) -> list[str]:
        """The addresses to greet now."""
        if self._targeted_at_ms is None:
            self._targeted_at_ms = now_ms
            self._probe_at_ms = now_ms + self._options.probe_ms
        target = self._target
        if not target.welcomed and now_ms - self._targeted_at_ms >= self._options.silence_ms:
            self.abandon(self.generation, now_ms)
            target = self._target
        greetings: list[str] = []
        if self._is_doubtful():
            if now_ms >= self._probe_at_ms:
                self._probe_at_ms = now_ms + self._options.probe_ms
                self._probe = self._after(self._probe, now_ms)
                if self._probe is not target:
                    self._greet(self._probe, now_ms, greetings)
            # A doubted target too: if it was restarted, its WELCOME is what makes us listen to it again.
            if now_ms >= target.greet_at_ms:
                self._greet(target, now_ms, greetings)
        for endpoint in self.endpoints:
            if endpoint.wanted and not endpoint.welcomed and now_ms >= endpoint.greet_at_ms:
                self._greet(endpoint, now_ms, greetings)
        return greetings

    def next_wakeup_ms(self) -> int | None:
        """When `poll` has something to do next; None if only an arrival can change that."""
        times = [endpoint.greet_at_ms for endpoint in self.endpoints if endpoint.wanted and not endpoint.welcomed]
        if self._is_doubtful():
            times += [self._target.greet_at_ms, self._probe_at_ms]
        return min(times, default=None)

    def want(self, address: str) -> Endpoint:
        """Greet this address too, for a request to this very node. Raises ConfigError for one nobody named."""
        endpoint = self._by_address.get(address)
        if endpoint is None:
            raise ConfigError(f"{address} is no address of this cluster; known are {', '.join(self._by_address)}")
        endpoint.wanted = True
        return endpoint

    def unwant(self, address: str) -> None:
        """Nobody waits for an answer of this very node any more: it is greeted only as the others are."""
        endpoint = self._by_address[address]
        if endpoint is not self._heir:
            endpoint.wanted = False

    def address_of(self, node_id: int) -> str | None:
        """The client address of a node, None while no WELCOME told it."""
        return self._addresses_by_id.get(node_id)

    def node_addresses(self) -> dict[int, str]:
        """The address of every node of which a WELCOME told, by its id; a copy."""
        return dict(self._addresses_by_id)

    def node_ids(self) -> list[int]:
        """The ids of the members, as far as a WELCOME told them."""
        return sorted(self._addresses_by_id)

    def addresses(self) -> list[str]:
        """Every address known, given or learned."""
        return [endpoint.address for endpoint in list(self.endpoints)]

    def node_id_of(self, address: str) -> int:
        """The node at an address, 0 while nobody told."""
        endpoint = self._by_address.get(address)
        if endpoint is not None and endpoint.node_id:
            return endpoint.node_id
        return next((node_id for node_id, known in list(self._addresses_by_id.items()) if known == address), 0)

    def unsent(self, address: str, now_ms: int) -> None:
        """A greeting did not leave: try again soon."""
        self._by_address[address].greet_at_ms = now_ms + UNSENT_RETRY_MS

    def unusable(self, address: str, text: str) -> None:
        """Nothing can be connected to at this address."""
        self._by_address[address].foreign = text

    def welcome(self, address: str, welcome: Welcome, incarnation: int, now_ms: int) -> None:
        """A node answered its greeting; an incarnation not seen before has lost what was sent to an earlier one."""
        endpoint = self._by_address[address]
        if self.cluster_id not in (0, welcome.cluster_id):
            endpoint.foreign = (
                f"the node at {address} belongs to cluster {welcome.cluster_id}, not to {self.cluster_id}; "
                "check the addresses and the cluster id"
            )
            endpoint.welcomed = False
            if endpoint is self._target:
                self.abandon(self.generation, now_ms)
            return
        self.cluster_id = welcome.cluster_id
        self.application = welcome.application
        self.option_arguments = frozenset(welcome.option_arguments)
        endpoint.node_id, endpoint.welcomed, endpoint.foreign = welcome.node_id, True, ""
        self.answered(endpoint)
        if endpoint.incarnation != incarnation:
            if endpoint is self._target and endpoint.incarnation:
                self.generation += 1
            endpoint.incarnation = incarnation
        self._learn_members(endpoint, welcome.members)
        self.trouble = ""
        self.limits = NodeLimits.from_welcome(welcome.limits, self._frame_bytes_max)  # Last: see `welcomed`.
        if endpoint in (self._target, self._heir) or self._is_doubtful():
            self._follow(endpoint, welcome.leader_id, now_ms)
        if endpoint is self._heir:
            self._heir = None  # It does not lead, or we would have moved.

    # --- inside ---

    def _is_doubtful(self) -> bool:
        return not self._target.welcomed or self._doubted or self._missed

    def _follow(self, endpoint: Endpoint, leader_id: int, now_ms: int) -> None:
        """Use what `endpoint` says about the leader; without a leader, an answering node is better than a quiet one."""
        if leader_id:
            self.hint(leader_id, now_ms)
        if self._target.welcomed or endpoint is self._target:
            return
        leader = self._by_address.get(self._addresses_by_id.get(leader_id, ""))
        if leader is not self._target:
            self._move(endpoint, now_ms)

    def _learn_members(self, endpoint: Endpoint, members: list[tuple[int, str]]) -> None:
        """Add addresses that the configuration of the cluster names; one that we were given stays as it was given."""
        for node_id, address in members:
            if node_id == endpoint.node_id:
                continue
            known = self._addresses_by_id.get(node_id)
            if known is not None and self._by_address[known].node_id == node_id:
                continue  # That node has answered under this address itself.
            try:
                split_address("member", address)
            except ConfigError:
                continue
            if address not in self._by_address:
                if len(self.endpoints) >= ENDPOINTS_MAX:
                    continue
                self._by_address[address] = Endpoint(address)
                self.endpoints.append(self._by_address[address])
            self._addresses_by_id[node_id] = address
        self._addresses_by_id[endpoint.node_id] = endpoint.address

    def _greet(self, endpoint: Endpoint, now_ms: int, greetings: list[str]) -> None:
        endpoint.greet_at_ms = now_ms + GREETING_RETRY_MS
        if endpoint.address not in greetings:
            greetings.append(endpoint.address)

    def _move(self, endpoint: Endpoint, now_ms: int) -> None:
        if endpoint is self._target and endpoint.welcomed:
            return
        self._target = endpoint
        self._probe = endpoint
        self._targeted_at_ms = now_ms
        self._probe_at_ms = now_ms + self._options.probe_ms
        self._doubted = self._missed = False
        self._served = False
        self._heir = None
        self.generation += 1

    def _after(self, endpoint: Endpoint, now_ms: int) -> Endpoint:
        """The next endpoint in the ring, one that was not silent a moment ago if there is one."""
        start = self.endpoints.index(endpoint) + 1
        ring = self.endpoints[start:] + self.endpoints[:start]
        usable = [other for other in ring if not other.foreign] or ring
        return next((other for other in usable if other.suspect_until_ms <= now_ms), usable[0])
