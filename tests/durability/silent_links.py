"""Links between real nodes that fall silent: how soon the others notice, and how soon they are back (RELIABILITY F6).

A node is cut off from the others, both ways, in one of these manners; clients reach it all the while:

proxy      what is sent is taken and never passed on, without a word (a TCP proxy between the nodes)
blackhole  packets are dropped, and so are those that open a connection (root and nftables)
reset      connections are reset, new ones as well (a TCP proxy between the nodes)
stopped    the process of the node is stopped (SIGSTOP)

A link is one of the others and its connection to that node: it has noticed when its status document does not list the
node any more, and is back when it does again.

Run as a script for the long version:
python tests/durability/silent_links.py --links 100
python tests/durability/silent_links.py --links 100 --kind blackhole
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Started as a script, the folder of the tests is not on the path.
    sys.path.insert(0, str(ROOT))

from raftactors.client import Client  # noqa: E402
from raftactors.cluster.ports import hold_port  # noqa: E402
from raftactors.cluster.process import NodeProcess  # noqa: E402
from raftactors.config import Member, NodeConfig  # noqa: E402
from raftactors.errors import RequestError  # noqa: E402
from tests.durability import packet_filter  # noqa: E402
from tests.durability.packet_filter import PacketFilter  # noqa: E402
from tests.durability.tcp_proxy import Proxy, Silence  # noqa: E402

NODES = 3
CLUSTER_ID = 77
KINDS = ("proxy", "blackhole", "reset", "stopped")
NOTICED_MS_MAX = 2_000.0
BACK_MS_MAX = 2_000.0
POLL_S = 0.02
GIVEN_UP_S = 15.0
SILENT_ON_S = 1.0
"""A silence goes on for up to this long after everybody has noticed."""
STATUS_TIMEOUT_MS = 1_000
START_TIMEOUT_MS = 30_000


@dataclass(slots=True)
class Silences:
    """How long links of one kind took; what never came counts as `GIVEN_UP_S`."""

    kind: str
    noticed_ms: list[float] = field(default_factory=list)
    back_ms: list[float] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """Nodes that ended although nobody asked for it."""

    def faults(self, slack_ms: float = 0.0) -> list[str]:
        """What is not as it has to be, a line each; `slack_ms` is for a busy machine."""
        late = [
            (what, sum(each > most + slack_ms for each in times), most)
            for what, times, most in (
                ("noticed", self.noticed_ms, NOTICED_MS_MAX),
                ("back", self.back_ms, BACK_MS_MAX),
            )
        ]
        found = [
            f"{self.kind}: {count} links {what} after more than {most:.0f} ms" for what, count, most in late if count
        ]
        return found + [f"{self.kind}: {text}" for text in self.ended]


class Neighbours:
    """Three nodes started by hand, with or without a proxy between them."""

    def __init__(self, folder: Path, stack: ExitStack, *, proxied: bool) -> None:
        ports = {node_id: [_hold(stack) for _ in range(3)] for node_id in range(1, NODES + 1)}
        self.peer_addresses = {node_id: peer for node_id, (peer, _, _) in ports.items()}
        self.proxy: Proxy | None = None
        reached = self.peer_addresses
        if proxied:
            self.proxy = stack.enter_context(Proxy(self.peer_addresses))
            reached = self.proxy.addresses
        self._reached = [int(address.rpartition(":")[2]) for address in reached.values()]
        members = tuple(
            Member(node_id=node_id, peer_address=reached[node_id], client_address=client, snapshot_address=snapshot)
            for node_id, (_, client, snapshot) in ports.items()
        )
        self.nodes: dict[int, NodeProcess] = {}
        for node_id in ports:
            place = folder / f"node-{node_id}"
            place.mkdir()
            config = NodeConfig(
                cluster_id=CLUSTER_ID,
                node_id=node_id,
                data_dir=place / "data",
                members=members,
                listen_peer_address=self.peer_addresses[node_id],
            )
            (place / "config.json").write_text(config.to_json())
            self.nodes[node_id] = NodeProcess(node_id, place / "config.json", place / "log")
            stack.callback(self.nodes[node_id].close)
            self.nodes[node_id].start()
        for node in self.nodes.values():
            node.wait_ready(START_TIMEOUT_MS)
        addresses = [member.client_address for member in members]
        self._client = stack.enter_context(Client(addresses, cluster_id=CLUSTER_ID))
        self._client.admin("status", timeout_ms=START_TIMEOUT_MS)

    def connected(self, node_id: int) -> set[int] | None:
        """Whom a node lists as connected; None if it does not answer."""
        try:
            document = self._client.admin("status", node=node_id, timeout_ms=STATUS_TIMEOUT_MS)
        except RequestError:
            return None
        return set(document["connected"])

    def outgoing_ports(self, node_id: int) -> set[int]:
        """Local ports of the connections that a node has made to the others."""
        connections = psutil.Process(self.nodes[node_id].pid).net_connections("tcp")
        return {each.laddr.port for each in connections if each.raddr and each.raddr.port in self._reached}

    @property
    def peer_ports(self) -> dict[int, int]:
        """The port on which each node listens for the others."""
        return {node_id: int(address.rpartition(":")[2]) for node_id, address in self.peer_addresses.items()}


def _hold(stack: ExitStack) -> str:
    held = hold_port()
    stack.callback(held.close)
    return held.address


@contextmanager
def proxied(nodes: Neighbours, node_id: int, silence: Silence) -> Iterator[None]:
    """The proxy falls silent around a node."""
    assert nodes.proxy is not None
    nodes.proxy.silence(node_id, silence, nodes.outgoing_ports(node_id))
    try:
        yield
    finally:
        nodes.proxy.go_on()


@contextmanager
def filtered(nodes: Neighbours, node_id: int, packets: PacketFilter) -> Iterator[None]:
    """The kernel drops what goes to a node and what comes from it."""
    packets.drop({nodes.peer_ports[node_id], *nodes.outgoing_ports(node_id)}, nodes.peer_ports.values())
    try:
        yield
    finally:
        packets.go_on()


@contextmanager
def stopped(nodes: Neighbours, node_id: int) -> Iterator[None]:
    """The process of a node stands still."""
    nodes.nodes[node_id].pause()
    try:
        yield
    finally:
        nodes.nodes[node_id].resume()


def run(kind: str, links: int, *, seed: int = 1, show: bool = False) -> Silences:
    """Let nodes fall silent until `links` links, or one more, have been silent."""
    outcome, rng = Silences(kind), Random(seed)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        nodes = Neighbours(Path(folder), stack, proxied=kind in {"proxy", "reset"})
        make, everybody = _silencer(kind, nodes, stack), sorted(nodes.nodes)
        turns: Sequence[int] = range(-(-links // (NODES - 1)))
        for _ in track(turns, kind, console=Console(stderr=True), disable=not (show and sys.stderr.isatty())):
            _await(nodes, everybody, lambda seen: len(seen) == NODES - 1)
            silent = rng.choice(everybody)
            others = [node_id for node_id in everybody if node_id != silent]
            with make(silent):
                outcome.noticed_ms += _await(nodes, others, partial(_lacks, silent))
                time.sleep(rng.random() * SILENT_ON_S)
            outcome.back_ms += _await(nodes, others, partial(_holds, silent))
        outcome.ended = [
            f"node {node.node_id} ended: {node.exit_text()}" for node in nodes.nodes.values() if not node.is_alive
        ]
    return outcome


def _silencer(kind: str, nodes: Neighbours, stack: ExitStack) -> Callable[[int], AbstractContextManager[None]]:
    if kind == "stopped":
        return lambda node_id: stopped(nodes, node_id)
    if kind == "blackhole":
        packets = stack.enter_context(PacketFilter())
        return lambda node_id: filtered(nodes, node_id, packets)
    silence = Silence.HOLD if kind == "proxy" else Silence.RESET
    return lambda node_id: proxied(nodes, node_id, silence)


def _holds(node_id: int, seen: set[int]) -> bool:
    return node_id in seen


def _lacks(node_id: int, seen: set[int]) -> bool:
    return node_id not in seen


def _await(nodes: Neighbours, asked: Sequence[int], holds: Callable[[set[int]], bool]) -> list[float]:
    """Poll the status of nodes until something holds for each; how many milliseconds that took for each."""
    began_s = time.monotonic()
    took_ms: dict[int, float] = {}
    while len(took_ms) < len(asked) and time.monotonic() < began_s + GIVEN_UP_S:
        for node_id in asked:
            if node_id not in took_ms:
                seen = nodes.connected(node_id)
                if seen is not None and holds(seen):
                    took_ms[node_id] = (time.monotonic() - began_s) * 1000
        time.sleep(POLL_S)
    return [took_ms.get(node_id, GIVEN_UP_S * 1000) for node_id in asked]


def summary(outcomes: Sequence[Silences]) -> Table:
    """Middle and largest times, a line a kind."""
    table = Table(title="silent links, milliseconds")
    for heading in ("kind", "links", "noticed p50", "noticed max", "back p50", "back max"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for outcome in outcomes:
        times = [
            f"{pick(each):.0f}" for each in (outcome.noticed_ms, outcome.back_ms) for pick in (statistics.median, max)
        ]
        table.add_row(outcome.kind, str(len(outcome.noticed_ms)), *times)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=int, default=100, help="of each kind; 100")
    parser.add_argument("--kind", action="append", choices=KINDS, help="may be given again; all of them")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    console = Console(highlight=False)
    kinds = list(arguments.kind or KINDS)
    if "blackhole" in kinds and (reason := packet_filter.missing()):
        console.print(f"NOT TESTED: blackhole: {reason}", style="bold red")
        kinds.remove("blackhole")
    outcomes = [run(kind, arguments.links, seed=arguments.seed, show=True) for kind in kinds]
    if outcomes:
        console.print(summary(outcomes))
    faults = [fault for outcome in outcomes for fault in outcome.faults()]
    for fault in faults:
        console.print(f"FAULT: {fault}", markup=False, soft_wrap=True)
    return 1 if faults or not outcomes else 0


if __name__ == "__main__":
    raise SystemExit(main())
