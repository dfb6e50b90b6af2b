"""The world a trace runs in: nodes, their storages and queues, and the network between them."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from raftactors.core.confchange_wire import decode_conf_change
from raftactors.core.config import RaftConfig, ReadOnlyOption
from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import (
    EMPTY_HARD_STATE,
    UNLIMITED,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Snapshot,
)
from raftactors.errors import (
    CompactedError,
    ConfChangeError,
    ConfigError,
    ProposalDropped,
    RaftActorsError,
    SnapshotOutOfDateError,
    SnapshotTemporarilyUnavailableError,
    StepLocalMessageError,
    StepPeerNotFoundError,
)
from tests.conformance import trace_format as fmt
from tests.conformance.state_view import node_state, stored_state
from tests.conformance.trace_schema import OPERATIONS, Json, SchemaError, normalise_record

_ERROR_NAMES: tuple[tuple[type[RaftActorsError], str], ...] = (
    (ProposalDropped, "dropped"),
    (StepLocalMessageError, "step_local_msg"),
    (StepPeerNotFoundError, "step_peer_not_found"),
    (CompactedError, "compacted"),
    (SnapshotOutOfDateError, "snap_out_of_date"),
    (ConfigError, "invalid_config"),
    (RaftActorsError, "other"),
)


def error_name(error: RaftActorsError) -> str:
    """The category of an error in the traces."""
    return next(name for kind, name in _ERROR_NAMES if isinstance(error, kind))


class SilentLogger:
    """A logger that drops everything; the traces' log text is not compared."""

    def debug(self, text: str, *args: object) -> None:
        """Drop it."""

    info = warning = error = debug


def reference_jitter(election_ticks: int) -> Callable[[int, int], int]:
    """What the traces add to the election timeout instead of a random number: (id * 7 + term * 13) mod T."""
    return lambda node_id, term: (node_id * 7 + term * 13) % election_ticks


class TraceStorage(MemoryStorage):
    """A storage whose snapshot can be out of reach for the library."""

    snapshot_available = True

    def snapshot(self) -> Snapshot:
        """The stored snapshot, unless the scenario hides it."""
        if not self.snapshot_available:
            raise SnapshotTemporarilyUnavailableError("the scenario has switched snapshots off")
        return super().snapshot()

    def stored_snapshot(self) -> Snapshot:
        """The stored snapshot, hidden or not."""
        return super().snapshot()

    def stored_entries(self) -> tuple[Entry, ...]:
        """Every stored entry."""
        first, last = self.first_index(), self.last_index()
        return self.entries(first, last + 1, UNLIMITED) if first <= last else ()


class TraceNode:
    """One node: a storage that survives crashes, the application's memory, and a RawNode with its queues."""

    def __init__(self, node_id: int, storage: TraceStorage, config: Json, applied: int) -> None:
        self.node_id = node_id
        self.storage = storage
        self.is_async: bool = config["async_storage_writes"]
        self.append_work: deque[Message] = deque()
        self.apply_work: deque[Message] = deque()
        self.inbox: deque[Message] = deque()
        self.unadvanced: bool = False
        snapshot = storage.stored_snapshot()
        self._confs: list[tuple[int, ConfState]] = [(snapshot.index, snapshot.conf_state)]
        self.raw = RawNode(_raft_config(node_id, config, storage, applied))

    def conf_at(self, index: int) -> ConfState:
        """The membership that the application remembers for an index."""
        best = max((remembered for remembered, _ in self._confs if remembered <= index), default=None)
        return next((conf for remembered, conf in reversed(self._confs) if remembered == best), ConfState())

    def persist(self, hard_state: HardState | None, snapshot: Snapshot | None, entries: tuple[Entry, ...]) -> None:
        """Store what a Ready or a unit of append work asks for."""
        if hard_state is not None and hard_state != EMPTY_HARD_STATE:
            self.storage.set_hard_state(hard_state)
        if snapshot is not None and snapshot.index and snapshot.index > self.storage.stored_snapshot().index:
            self.storage.apply_snapshot(snapshot)
            self._confs.append((snapshot.index, snapshot.conf_state))
        if entries:
            self.storage.append(entries)

    def apply(self, entries: tuple[Entry, ...]) -> list[Json]:
        """Apply committed entries; returns what became of the membership changes among them."""
        applied: list[Json] = []
        for entry in entries:
            if entry.type is EntryType.NORMAL:
                continue
            try:
                conf = self.raw.apply_conf_change(decode_conf_change(entry))
            except ConfChangeError:
                applied.append({"index": entry.index, "err": "invalid_conf_change"})
            else:
                self._confs.append((entry.index, conf))
                applied.append({"index": entry.index, "conf": fmt.conf_json(conf)})
        return applied

    def state(self) -> Json:
        """The node as the traces show it."""
        available, self.storage.snapshot_available = self.storage.snapshot_available, True
        stored = stored_state(self.storage)
        self.storage.snapshot_available = available
        return node_state(self.raw) | {
            "storage": stored,
            "pending_append": len(self.append_work),
            "pending_apply": len(self.apply_work),
            "pending_local": len(self.inbox),
            "awaiting_advance": self.unadvanced,
        }


def _raft_config(node_id: int, config: Json, storage: TraceStorage, applied: int) -> RaftConfig:
    bytes_per_message_max = config["max_size_per_msg"]
    return RaftConfig(
        node_id=node_id,
        election_ticks=config["election_tick"],
        heartbeat_ticks=config["heartbeat_tick"],
        storage=storage,
        applied=applied,
        bytes_per_message_max=UNLIMITED if bytes_per_message_max is None else bytes_per_message_max,
        inflight_messages_max=config["max_inflight_msgs"],
        inflight_bytes_max=config["max_inflight_bytes"],
        uncommitted_bytes_max=config["max_uncommitted_entries_size"],
        committed_bytes_per_ready_max=config["max_committed_size_per_ready"],
        check_quorum=config["check_quorum"],
        pre_vote=config["pre_vote"],
        read_only_option={"safe": ReadOnlyOption.SAFE, "lease": ReadOnlyOption.LEASE_BASED}[config["read_only_option"]],
        disable_proposal_forwarding=config["disable_proposal_forwarding"],
        step_down_on_removal=config["step_down_on_removal"],
        disable_conf_change_validation=config["disable_conf_change_validation"],
        async_storage_writes=config["async_storage_writes"],
        random=random.Random(0),
        election_jitter=reference_jitter(config["election_tick"]),
        logger=SilentLogger(),
    )


class World:
    """Performs the operations of one scenario, in order; every operation returns its output in the traces' form."""

    def __init__(self) -> None:
        self.nodes: dict[int, TraceNode] = {}
        self._storages: dict[int, TraceStorage] = {}
        self._bag: dict[int, Message] = {}
        self._last_seq = 0
        self._handlers: dict[str, Callable[[Json], Json]] = {
            name: getattr(self, f"_{name}", self._call_node) for name in OPERATIONS
        }

    def perform(self, op: Json) -> Json:
        """Perform one operation. Raises SchemaError if its line says anything that the format does not know."""
        name = op.get("op")
        if not isinstance(name, str) or name not in OPERATIONS:
            raise SchemaError("op.op", f"{name!r} is no operation")
        normalise_record(OPERATIONS[name], op, "op")
        try:
            out: Json = {"err": None} | self._handlers[name](op)
        except RaftActorsError as error:
            out = {"err": error_name(error)}
            if isinstance(error, ConfigError):
                out["detail"] = str(error)
        if name not in ("crash", "drop", "duplicate") and op["id"] in self.nodes:
            out["state"] = self.nodes[op["id"]].state()
        return out

    def _call_node(self, op: Json) -> Json:
        raw = self.nodes[op["id"]].raw
        calls: dict[str, Callable[[], Any]] = {
            "campaign": raw.campaign,
            "forget_leader": raw.forget_leader,
            "propose": lambda: raw.propose(op["data"].encode("ascii")),
            "propose_conf_change": lambda: raw.propose_conf_change(fmt.change_from(op["cc"])),
            "read_index": lambda: raw.read_index(op["ctx"].encode("ascii")),
            "transfer_leader": lambda: raw.transfer_leader(op["to"]),
            "report_unreachable": lambda: raw.report_unreachable(op["to"]),
            "report_snapshot": lambda: raw.report_snapshot(op["to"], op["ok"]),
            "step": lambda: raw.step(fmt.message_from(op["msg"])),
        }
        calls[op["op"]]()
        return {}

    # --- life and death of nodes --------------------------------------------------------------------------------

    def _new(self, op: Json) -> Json:
        storage = TraceStorage()
        if snapshot := op.get("snapshot"):
            storage.apply_snapshot(fmt.snapshot_from(snapshot))
        if hard_state := op.get("hard_state"):
            storage.set_hard_state(HardState(**hard_state))
        node = TraceNode(op["id"], storage, op["config"], op.get("applied") or 0)
        if op.get("bootstrap") is not None:
            try:
                node.raw.bootstrap(tuple(op["bootstrap"]))
            except RaftActorsError:
                return {"err": "other"}
        self.nodes[op["id"]] = node
        self._storages[op["id"]] = storage
        return {}

    def _restart(self, op: Json) -> Json:
        node = TraceNode(op["id"], self._storages[op["id"]], op["config"], op.get("applied") or 0)
        self.nodes[op["id"]] = node
        return {}

    def _crash(self, op: Json) -> Json:
        del self.nodes[op["id"]]
        self._storages[op["id"]].snapshot_available = True
        return {}

    def _tick(self, op: Json) -> Json:
        for _ in range(op.get("n", 1)):
            self.nodes[op["id"]].raw.tick()
        return {}

    # --- effects ------------------------------------------------------------------------------------------------

    def _ready(self, op: Json) -> Json:
        node = self.nodes[op["id"]]
        ready = node.raw.ready()
        out: Json = {"ready": fmt.ready_json(ready)}
        if not node.is_async:
            node.persist(ready.hard_state, ready.snapshot, ready.entries)
        for message, shown in zip(ready.messages, out["ready"]["messages"], strict=True):
            if message.type is MessageType.STORAGE_APPEND:
                node.append_work.append(message)
            elif message.type is MessageType.STORAGE_APPLY:
                node.apply_work.append(message)
            else:
                shown["seq"] = self._post(message)
        if not node.is_async:
            out["conf_applied"] = node.apply(ready.committed)
            node.unadvanced = True
            if op.get("advance", True):
                self._advance(op)
        return out

    def _advance(self, op: Json) -> Json:
        node = self.nodes[op["id"]]
        node.unadvanced = False
        node.raw.advance()
        return {}

    def _process_append(self, op: Json) -> Json:
        node = self.nodes[op["id"]]
        work = node.append_work.popleft()
        node.persist(HardState(work.term, work.vote, work.commit), work.snapshot, work.entries)
        return {"work": fmt.message_json(work, responses=False)} | self._release(node, work, op)

    def _process_apply(self, op: Json) -> Json:
        node = self.nodes[op["id"]]
        work = node.apply_work.popleft()
        applied = node.apply(work.entries)
        shown = {"work": fmt.message_json(work, responses=False), "conf_applied": applied}
        return shown | self._release(node, work, op)

    def _release(self, node: TraceNode, work: Message, op: Json) -> Json:
        """Hand on the responses that a unit of work held back."""
        sent = []
        for response in work.responses:
            if response.to == node.node_id:
                node.inbox.append(response)
            else:
                sent.append(fmt.message_json(response) | {"seq": self._post(response)})
        stepped = []
        while node.inbox and not op.get("hold"):
            stepped.append(self._step_inbox(node))
        return {"sent": sent, "stepped": stepped}

    def _local(self, op: Json) -> Json:
        return {"stepped": [self._step_inbox(self.nodes[op["id"]])]}

    def _step_inbox(self, node: TraceNode) -> Json:
        message = node.inbox.popleft()
        shown = fmt.message_json(message)
        try:
            node.raw.step(message)
        except RaftActorsError as error:
            shown["err"] = error_name(error)
        return shown

    # --- network ------------------------------------------------------------------------------------------------

    def _post(self, message: Message) -> int:
        self._last_seq += 1
        self._bag[self._last_seq] = message
        return self._last_seq

    def _deliver(self, op: Json) -> Json:
        message = self._bag.pop(op["seq"])
        if message.to != op["id"]:
            raise SchemaError("op.id", f"message {op['seq']} is addressed to {message.to}")
        self.nodes[op["id"]].raw.step(message)
        return {}

    def _drop(self, op: Json) -> Json:
        del self._bag[op["seq"]]
        return {}

    def _duplicate(self, op: Json) -> Json:
        return {"new_seq": self._post(self._bag[op["seq"]])}

    def _send_snapshot(self, op: Json) -> Json:
        node = self.nodes[op["id"]]
        message = Message(
            type=MessageType.SNAP,
            to=op["to"],
            sender=op["id"],
            term=node.raw.raft.term,
            snapshot=node.storage.stored_snapshot(),
        )
        return {"sent": [fmt.message_json(message) | {"seq": self._post(message)}]}

    # --- storage ------------------------------------------------------------------------------------------------

    def _create_snapshot(self, op: Json) -> Json:
        node, index = self.nodes[op["id"]], op["index"]
        node.storage.create_snapshot(index, node.conf_at(index), f"snap@{index}".encode())
        return {}

    def _compact(self, op: Json) -> Json:
        self.nodes[op["id"]].storage.compact(op["index"])
        return {}

    def _snapshot_available(self, op: Json) -> Json:
        self.nodes[op["id"]].storage.snapshot_available = op["ok"]
        return {}

    def _log(self, op: Json) -> Json:
        node = self.nodes[op["id"]]
        return {
            "log": fmt.entries_json(tuple(node.raw.raft.log.all_entries())),
            "stored": fmt.entries_json(node.storage.stored_entries()),
        }
