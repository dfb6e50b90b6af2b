"""How much does the core alone carry: messages stepped and proposals committed a second, in one thread?

No disk, no socket, no actor: three `RawNode`s with asynchronous storage writes, as a node process runs them, whose
messages are handed over in memory. What comes out is the share of a write that Raft itself costs. Seconds are
processor time, which other programs on the machine disturb little.

    python bench/core.py --seconds 2 --value-bytes 100
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from measurement import environment, median
from rich import box
from rich.console import Console
from rich.table import Table

from raftactors.core.confchange_wire import decode_conf_change
from raftactors.core.config import RaftConfig
from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import APPEND_THREAD, APPLY_THREAD, Entry, EntryType

_LEADER = 1
_KEPT_ENTRIES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One question and its answer; `per_s` is the median of the rounds."""

    question: str
    unit: str
    per_s: float
    us_each: float


class Node:
    """A `RawNode` whose disk and state machine answer at once."""

    def __init__(self, node_id: int, voters: range, seed: int) -> None:
        self.log = MemoryStorage()
        logger = logging.getLogger("bench")
        logger.disabled = True
        config = RaftConfig(
            node_id=node_id,
            election_ticks=10,
            heartbeat_ticks=1,
            storage=self.log,
            async_storage_writes=True,
            random=random.Random(seed + node_id),
            logger=logger,
        )
        self.raft = RawNode(config)
        self.raft.bootstrap(list(voters))
        self.node_id = node_id
        self.applied = 0

    def perform(self) -> Iterator[Message]:
        """Do everything there is to do; yields what has to go to other nodes."""
        while self.raft.has_ready():
            for message in self.raft.ready().messages:
                if message.to == APPEND_THREAD:
                    self.log.append(message.entries)
                elif message.to == APPLY_THREAD:
                    self._apply(message.entries)
                else:
                    yield message
                for response in message.responses:
                    if response.to == self.node_id:
                        self.raft.step(response)
                    else:
                        yield response

    def _apply(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            if entry.type is not EntryType.NORMAL:
                self.raft.apply_conf_change(decode_conf_change(entry))
        self.applied = entries[-1].index
        if self.applied - self.log.first_index() > 2 * _KEPT_ENTRIES:
            self.log.compact(self.applied - _KEPT_ENTRIES)


class Cluster:
    """Nodes that hand each other messages in memory, in order, without loss."""

    def __init__(self, nodes: int, seed: int) -> None:
        voters = range(1, nodes + 1)
        self.nodes = {node_id: Node(node_id, voters, seed) for node_id in voters}
        self.settle()
        self.nodes[_LEADER].raft.campaign()
        self.settle()

    def settle(self) -> None:
        """Carry messages until nobody has anything to say."""
        waiting: dict[int, deque[Message]] = {node_id: deque() for node_id in self.nodes}
        quiet = False
        while not quiet:
            quiet = True
            for node_id, node in self.nodes.items():
                inbox = waiting[node_id]
                while inbox:
                    node.raft.step(inbox.popleft())
                for message in node.perform():
                    waiting[message.to].append(message)
                    quiet = False


def proposals(cluster: Cluster, value: bytes, batch: int) -> Callable[[], int]:
    """One turn: `batch` proposals at the leader, carried until every node has applied them."""
    leader_node = cluster.nodes[_LEADER]
    leader = leader_node.raft

    def turn() -> int:
        for _ in range(batch):
            leader.propose(value)
        before = leader_node.applied
        cluster.settle()
        if any(node.applied != before + batch for node in cluster.nodes.values()):
            raise RuntimeError(f"a node did not apply the {batch} proposals of this turn")
        return batch

    return turn


def _expect_one_answer(node: Node) -> None:
    answers = sum(1 for _ in node.perform())
    if answers != 1:
        raise RuntimeError(f"node {node.node_id} gave {answers} answers to one message")


def heartbeats(follower: Node, turns: int = 100) -> Callable[[], int]:
    """One turn: heartbeats of the leader, each stepped and answered."""
    term, _, commit = follower.raft.basic_status().hard_state
    beat = Message(MessageType.HEARTBEAT, follower.node_id, _LEADER, term, commit=commit)

    def turn() -> int:
        for _ in range(turns):
            follower.raft.step(beat)
            _expect_one_answer(follower)
        return turns

    return turn


def appends(follower: Node, value: bytes, turns: int = 100) -> Callable[[], int]:
    """One turn: appends of one entry each, stepped, stored, applied and answered."""
    term = follower.raft.basic_status().hard_state.term

    def turn() -> int:
        for _ in range(turns):
            last = follower.log.last_index()
            entry = Entry(term, last + 1, value)
            append = Message(
                MessageType.APP,
                follower.node_id,
                _LEADER,
                term,
                log_term=term,
                index=last,
                entries=(entry,),
                commit=last,
            )
            follower.raft.step(append)
            _expect_one_answer(follower)
        return turns

    return turn


def rate(turn: Callable[[], int], seconds: float, rounds: int) -> float:
    """How much `turn` gets done in a second of processor time, median of the rounds; a warm-up comes first."""
    rates = []
    for number in range(rounds + 1):
        done, start = 0, time.process_time()
        end = start + (seconds if number else 0.5)
        while time.process_time() < end:
            done += turn()
        rates.append(done / (time.process_time() - start))
    return median(rates[1:])


def measure(options: argparse.Namespace) -> list[Figure]:
    """Answer every question in turn, each on a cluster of its own."""
    value = b"v" * options.value_bytes

    def fresh() -> Cluster:
        return Cluster(options.nodes, options.seed)

    questions: list[tuple[str, str, Callable[[], int]]] = [
        ("a follower steps heartbeats", "messages", heartbeats(fresh().nodes[2])),
        ("a follower steps appends of one entry", "messages", appends(fresh().nodes[2], value)),
    ]
    questions += [
        (f"all nodes commit, {batch} proposals a turn", "proposals", proposals(fresh(), value, batch))
        for batch in options.batches
    ]
    figures = []
    for question, unit, turn in questions:
        per_s = rate(turn, options.seconds, options.rounds)
        figures.append(Figure(question=question, unit=unit, per_s=round(per_s, 1), us_each=round(1e6 / per_s, 3)))
    return figures


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description="The core alone: messages and proposals a second in one thread.")
    parser.add_argument("--nodes", type=int, default=3, choices=range(2, 10), metavar="2..9")
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 256], help="proposals a turn")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    parameters = {name: value for name, value in vars(options).items() if name != "json"}
    parameters |= environment(Path.cwd())
    figures = measure(options)
    if options.json:
        json.dump({"parameters": parameters, "figures": [asdict(figure) for figure in figures]}, sys.stdout, indent=2)
        print()
        return 0
    table = Table(title="raftactors.core, one thread", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("question", "a cpu second", "unit", "us each"):
        table.add_column(heading, justify="right" if heading in {"a cpu second", "us each"} else "left", no_wrap=True)
    for figure in figures:
        table.add_row(figure.question, f"{figure.per_s:,.0f}", figure.unit, f"{figure.us_each:.2f}")
    console = Console()
    console.print(table)
    console.print(", ".join(f"{name}={value}" for name, value in parameters.items()), highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
