"""The cluster that interaction scripts drive: nodes with a toy state machine, and one list of messages in flight."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from raftactors.core.confchange_wire import decode_conf_change
from raftactors.core.config import RaftConfig
from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    EMPTY_HARD_STATE,
    UNLIMITED,
    Entry,
    EntryType,
    HardState,
    Snapshot,
)
from raftactors.errors import (
    ProposalDropped,
    RaftActorsError,
    SnapshotTemporarilyUnavailableError,
    StepLocalMessageError,
    StepPeerNotFoundError,
)
from tests.conformance import printing
from tests.conformance.datadriven_syntax import DirectiveError

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE")
"""Log levels; FATAL shows output without log text, NONE shows nothing at all."""

_ERROR_TEXTS: dict[type[RaftActorsError], str] = {
    ProposalDropped: "raft proposal dropped",
    StepLocalMessageError: "raft: cannot step raft local message",
    StepPeerNotFoundError: "raft: cannot step as peer not found",
}


def error_text(error: RaftActorsError) -> str:
    """The reference's text where it has one, ours otherwise."""
    return _ERROR_TEXTS.get(type(error)) or str(error)


class Output:
    """Collects what a directive prints; text inside `indented` moves right. With level NONE nothing is kept."""

    def __init__(self) -> None:
        self.level = "DEBUG"
        self._text = ""

    def write(self, text: str) -> None:
        """Print text as it is."""
        if self.level != "NONE":
            self._text += text

    def line(self, text: str) -> None:
        """Print text and a newline."""
        self.write(text + "\n")

    def log(self, level: str, text: str) -> None:
        """Print one log text, unless its level is too low."""
        if LEVELS.index(level) >= LEVELS.index(self.level):
            self.line(f"{level} {text}")

    @contextmanager
    def indented(self) -> Iterator[None]:
        """Move everything that is printed inside right by two blanks."""
        before, self._text = self._text, ""
        try:
            yield
        finally:
            inner, self._text = self._text, before
            if inner:
                self._text += printing.indented(inner.removesuffix("\n")) + "\n"

    def take(self) -> str:
        """What was printed since the last call."""
        text, self._text = self._text, ""
        return text


class OutputLogger:
    """The logger of the nodes: prints into the output at once."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def _log(self, level: str, msg: str, args: tuple[object, ...]) -> None:
        self._output.log(level, msg % args if args else msg)

    def debug(self, msg: str, *args: object) -> None:
        """Detail of the protocol."""
        self._log("DEBUG", msg, args)

    def info(self, msg: str, *args: object) -> None:
        """A change of state."""
        self._log("INFO", msg, args)

    def warning(self, msg: str, *args: object) -> None:
        """Something that should not happen often."""
        self._log("WARN", msg, args)

    def error(self, msg: str, *args: object) -> None:
        """Something that should not happen."""
        self._log("ERROR", msg, args)


class HistoryStorage(MemoryStorage):
    """A storage that hands out the state machine's newest snapshot, not the one its log was compacted with."""

    def __init__(self, first: Snapshot) -> None:
        super().__init__()
        self.history = [first]
        self.snapshot_available = True
        if first.index:
            self.apply_snapshot(first)

    def snapshot(self) -> Snapshot:
        """The state after the last applied entry."""
        if not self.snapshot_available:
            raise SnapshotTemporarilyUnavailableError("the script has switched snapshots off")
        return self.history[-1]

    def persist(self, hard_state: HardState | None, snapshot: Snapshot | None, entries: tuple[Entry, ...]) -> None:
        """Store what a Ready or a unit of append work asks for; there are no entries beside a snapshot."""
        if hard_state is not None and hard_state != EMPTY_HARD_STATE:
            self.set_hard_state(hard_state)
        if snapshot is not None and snapshot.index:
            self.apply_snapshot(snapshot)
        elif entries:
            self.append(entries)

    def rewind(self, applied: int) -> None:
        """Take the state machine back to where it stands after a restart: at `applied`, or at the log's beginning."""
        kept = max(applied, self.first_index() - 1)
        self.history = [snapshot for snapshot in self.history if snapshot.index <= kept] or self.history[:1]

    def stored_entries(self) -> tuple[Entry, ...]:
        """Every stored entry."""
        first, last = self.first_index(), self.last_index()
        return self.entries(first, last + 1, UNLIMITED) if first <= last else ()


class InteractionNode:
    """One node and its work queues."""

    def __init__(self, config: RaftConfig, storage: HistoryStorage) -> None:
        self.node_id = config.node_id
        self.config = config
        self.storage = storage
        self.raw = RawNode(config)
        self.append_work: deque[Message] = deque()
        self.apply_work: deque[Message] = deque()

    def apply(self, entries: tuple[Entry, ...]) -> None:
        """Let the state machine, a string, grow by every entry's payload; each step leaves a snapshot behind."""
        for entry in entries:
            last = self.storage.history[-1]
            if entry.type is EntryType.NORMAL:
                data, conf = entry.data or b"", last.conf_state
            else:
                change = decode_conf_change(entry)
                data, conf = change.context, self.raw.apply_conf_change(change)
            self.storage.history.append(Snapshot(entry.index, entry.term, conf, last.data + data))


class Cluster:
    """Nodes 1, 2, 3, ... and what is under way between them. Everything that happens is printed to `output`."""

    def __init__(self) -> None:
        self.output = Output()
        self.nodes: list[InteractionNode] = []
        self.in_flight: list[Message] = []

    def node(self, node_id: int) -> InteractionNode:
        """The node with this id. Raises DirectiveError if there is none."""
        if not 1 <= node_id <= len(self.nodes):
            raise DirectiveError(f"there is no node {node_id}")
        return self.nodes[node_id - 1]

    def add_node(self, config: RaftConfig, storage: HistoryStorage) -> InteractionNode:
        """Start one more node; `config` is completed with what belongs to this cluster."""
        complete = self.complete(config, len(self.nodes) + 1, storage)
        self.nodes.append(InteractionNode(complete, storage))
        return self.nodes[-1]

    def complete(self, config: RaftConfig, node_id: int, storage: HistoryStorage) -> RaftConfig:
        """`config` for this node: its storage, this cluster's output, and chance that repeats itself."""
        logger, chance = OutputLogger(self.output), random.Random(node_id)
        return replace(config, node_id=node_id, storage=storage, logger=logger, random=chance)

    def restart_node(self, node_id: int, config: RaftConfig) -> None:
        """Lose everything a node has not stored, and start it anew from its storage."""
        storage = self.node(node_id).storage
        storage.rewind(config.applied)
        self.nodes[node_id - 1] = InteractionNode(self.complete(config, node_id, storage), storage)
        local = {node_id, APPEND_THREAD, APPLY_THREAD}
        self.in_flight = [m for m in self.in_flight if not (m.to == node_id and m.sender in local)]

    # --- work ---------------------------------------------------------------------------------------------------

    def process_ready(self, node: InteractionNode) -> None:
        """Take one Ready, print it and do what it asks for."""
        ready = node.raw.ready()
        self.output.write(printing.ready_text(ready))
        if not node.config.async_storage_writes:
            node.storage.persist(ready.hard_state, ready.snapshot, ready.entries)
            node.apply(ready.committed)
        for message in ready.messages:
            if message.type is MessageType.STORAGE_APPEND:
                node.append_work.append(message)
            elif message.type is MessageType.STORAGE_APPLY:
                node.apply_work.append(message)
            else:
                self.in_flight.append(message)
        if not node.config.async_storage_writes:
            node.raw.advance()

    def process_append(self, node: InteractionNode) -> None:
        """Do the oldest unit of append work."""
        if not node.append_work:
            self.output.line("no append work to perform")
            return
        work = node.append_work.popleft()
        self._start_work(work)
        node.storage.persist(HardState(work.term, work.vote, work.commit), work.snapshot, work.entries)
        self._finish_work(work)

    def process_apply(self, node: InteractionNode) -> None:
        """Do the oldest unit of apply work."""
        if not node.apply_work:
            self.output.line("no apply work to perform")
            return
        work = node.apply_work.popleft()
        self._start_work(work)
        node.apply(work.entries)
        self._finish_work(work)

    def _start_work(self, work: Message) -> None:
        self.output.line("Processing:")
        self.output.line(printing.message_text(work, responses=False))

    def _finish_work(self, work: Message) -> None:
        self.output.line("Responses:")
        for response in work.responses:
            self.output.line(printing.message_text(response))
        self.in_flight += work.responses

    # --- messages -----------------------------------------------------------------------------------------------

    def deliver(self, node_id: int, kind: MessageType | None = None, *, drop: bool = False) -> int:
        """Deliver, or drop, everything in flight to a node; returns the number of messages."""
        local = {node_id, APPEND_THREAD, APPLY_THREAD}
        taken: list[Message] = []
        kept: list[Message] = []
        for message in self.in_flight:
            wanted = message.to == node_id and kind in (None, message.type) and not (drop and message.sender in local)
            (taken if wanted else kept).append(message)
        self.in_flight = kept
        for message in taken:
            self.output.line(("dropped: " if drop else "") + printing.message_text(message))
            if not drop:
                try:
                    self.node(node_id).raw.step(message)
                except RaftActorsError as error:
                    self.output.line(error_text(error))
        return len(taken)

    def send_snapshot(self, node: InteractionNode, target_id: int) -> None:
        """Put the newest snapshot of a node in flight, as if the library had sent it."""
        message = Message(
            type=MessageType.SNAP,
            to=target_id,
            sender=node.node_id,
            term=node.raw.raft.term,
            snapshot=node.storage.snapshot(),
        )
        self.output.line(printing.message_text(message))
        self.in_flight.append(message)

    def stabilize(self, nodes: list[InteractionNode]) -> None:
        """Let the nodes work until none of them has anything left to do."""
        while self._round(nodes):
            pass

    def _round(self, nodes: list[InteractionNode]) -> bool:
        worked = False
        for node in nodes:
            if node.raw.has_ready():
                worked = True
                with self._heading(f"> {node.node_id} handling Ready"):
                    self.process_ready(node)
        for node in nodes:
            if any(message.to == node.node_id for message in self.in_flight):
                worked = True
                with self._heading(f"> {node.node_id} receiving messages"):
                    self.deliver(node.node_id)
        for node in nodes:
            if node.append_work:
                worked = True
                with self._heading(f"> {node.node_id} processing append thread"):
                    while node.append_work:
                        self.process_append(node)
        for node in nodes:
            if node.apply_work:
                worked = True
                with self._heading(f"> {node.node_id} processing apply thread"):
                    while node.apply_work:
                        self.process_apply(node)
        return worked

    @contextmanager
    def _heading(self, text: str) -> Iterator[None]:
        self.output.line(text)
        with self.output.indented():
            yield
