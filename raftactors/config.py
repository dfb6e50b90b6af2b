"""Configuration of one node: plain, frozen, checked at construction.

Every limit has its unit in its name. Raise a limit only together with the memory budget that it multiplies into:
what waits to be sent to a member is at most `peer_queue_messages` x `peer_frame_bytes_max` bytes, what waits of one
connection `client_backlog_bytes_max` or `peer_backlog_bytes_max`, of all clients eight times that, and what they have
under way and unread `pending_bytes_max` and `unread_bytes_max`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from raftactors.errors import ConfigError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Where one member of the cluster is reached. Addresses are `host:port`.

    Without a `snapshot_address` the member can neither send nor receive snapshots.
    """

    node_id: int
    peer_address: str
    client_address: str
    snapshot_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftTiming:
    """The clock of Raft in one place. An election timeout is drawn from [T, 2T-1] ticks, T = `election_ticks`."""

    tick_ms: int = 50
    heartbeat_ticks: int = 1
    election_ticks: int = 10

    def __post_init__(self) -> None:
        _within("tick_ms", self.tick_ms, 1, 10_000)
        _within("heartbeat_ticks", self.heartbeat_ticks, 1, 1_000)
        _within("election_ticks", self.election_ticks, 1, 100_000)
        if self.election_ticks < 5 * self.heartbeat_ticks:
            raise ConfigError(
                f"election_ticks is {self.election_ticks}; it must be at least 5 heartbeats "
                f"({5 * self.heartbeat_ticks}), or followers campaign against a healthy leader"
            )

    @property
    def election_timeout_ms(self) -> int:
        """The shortest election timeout in milliseconds."""
        return self.tick_ms * self.election_ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Everything that could grow, and how far it may.

    A snapshot is taken when `snapshot_bytes` or `snapshot_entries` of the log were applied since the last one. The log
    in memory then keeps at most `trailing_entries` and `trailing_bytes` from before it for slow followers; further
    ones get the snapshot, in chunks of `snapshot_chunk_bytes`, at most `snapshot_window_chunks` under way to each of at
    most `snapshot_transfers_max` at a time, and `snapshot_bytes_per_second` together. A transfer that makes no progress
    for `snapshot_timeout_ms` is given up; what has arrived stays for the next one.

    A node has at most `pending_frames_max` client frames of `pending_bytes_max` bytes without an answer, one connection
    at most `client_pending_frames_max` and `client_pending_bytes_max`; more is refused with BUSY. Of replies that the
    clients have not read, `unread_bytes_max` are held, and `client_unread_bytes_max` for one connection, but never
    less than three frames of `client_frame_bytes_max`: one to read and two on their way. A connection that has much to
    read and reads nothing for `client_stall_ms` is cut. Queries give way to commands and to other connections every
    `query_slice_ms`.

    A listener has at most `client_connections_max` or `peer_connections_max` connections, of which each may have
    `client_backlog_bytes_max` or `peer_backlog_bytes_max` waiting, and eight frames in any case; one that has
    more is cut, as is one that sends an unfinished message of more than a frame.

    Every `scrub_interval_ms` what lies on the disk is read again and verified, `scrub_bytes_per_second` at most.
    """

    command_bytes_max: int = 128 * 1024
    client_frame_bytes_max: int = 256 * 1024
    peer_frame_bytes_max: int = 2 * 1024 * 1024
    peer_queue_messages: int = 64
    client_queue_messages: int = 64
    peer_connections_max: int = 128
    client_connections_max: int = 1_024
    peer_backlog_bytes_max: int = 64 * 1024 * 1024
    client_backlog_bytes_max: int = 8 * 1024 * 1024
    proposal_bytes_max: int = 512 * 1024
    append_bytes_max: int = 1024 * 1024
    inflight_messages_max: int = 256
    inflight_bytes_max: int = 16 * 1024 * 1024
    uncommitted_bytes_max: int = 64 * 1024 * 1024
    committed_bytes_per_ready_max: int = 1024 * 1024
    mailbox_messages_max: int = 16_384
    pending_frames_max: int = 8_192
    pending_bytes_max: int = 64 * 1024 * 1024
    client_pending_frames_max: int = 1_024
    client_pending_bytes_max: int = 8 * 1024 * 1024
    unread_bytes_max: int = 64 * 1024 * 1024
    client_unread_bytes_max: int = 1024 * 1024
    client_stall_ms: int = 5_000
    query_slice_ms: int = 5
    session_inflight_max: int = 1_024
    sessions_max: int = 10_000
    session_ttl_ms: int = 3_600_000
    segment_bytes: int = 64 * 1024 * 1024
    snapshot_bytes: int = 64 * 1024 * 1024
    snapshot_entries: int = 100_000
    trailing_entries: int = 1_024
    trailing_bytes: int = 16 * 1024 * 1024
    snapshot_chunk_bytes: int = 256 * 1024
    snapshot_window_chunks: int = 4
    snapshot_transfers_max: int = 2
    snapshot_bytes_per_second: int = 64 * 1024 * 1024
    snapshot_file_bytes_max: int = 64 * 1024 * 1024 * 1024
    snapshot_timeout_ms: int = 10_000
    scrub_interval_ms: int = 12 * 3_600_000
    scrub_bytes_per_second: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        for limit in dataclasses.fields(self):
            _within(limit.name, getattr(self, limit.name), 1, 2**40)
        if self.command_bytes_max + 4096 > self.client_frame_bytes_max:
            raise ConfigError(
                f"command_bytes_max ({self.command_bytes_max}) must leave 4096 bytes of client_frame_bytes_max "
                f"({self.client_frame_bytes_max}) for the frame around it"
            )
        if self.unread_bytes_max < self.client_unread_bytes_max:
            raise ConfigError(
                f"unread_bytes_max ({self.unread_bytes_max}) is for all connections together and must be at least "
                f"client_unread_bytes_max ({self.client_unread_bytes_max})"
            )
        _within("query_slice_ms", self.query_slice_ms, 1, 1_000)
        _within("snapshot_chunk_bytes", self.snapshot_chunk_bytes, 64, 1024 * 1024)
        _within("snapshot_window_chunks", self.snapshot_window_chunks, 1, 64)
        _within("snapshot_transfers_max", self.snapshot_transfers_max, 1, 16)
        if self.snapshot_chunk_bytes + 4096 > self.peer_frame_bytes_max:
            raise ConfigError(
                f"snapshot_chunk_bytes ({self.snapshot_chunk_bytes}) must leave 4096 bytes of peer_frame_bytes_max "
                f"({self.peer_frame_bytes_max}) for the frame around it"
            )
        if self.client_frame_bytes_max > self.proposal_bytes_max:
            raise ConfigError(
                f"proposal_bytes_max ({self.proposal_bytes_max}) must hold at least one client frame "
                f"({self.client_frame_bytes_max})"
            )
        if self.append_bytes_max + self.proposal_bytes_max + 65_536 > self.peer_frame_bytes_max:
            raise ConfigError(
                f"peer_frame_bytes_max ({self.peer_frame_bytes_max}) must hold append_bytes_max "
                f"({self.append_bytes_max}), one proposal ({self.proposal_bytes_max}) and 65536 bytes around them"
            )


@dataclass(frozen=True, slots=True)
class Durability:
    """When an appended batch counts as durable: `fsync`, `interval` or `none`.

    `fsync`: when the disk has confirmed it. `interval`: as soon as it is written; the disk follows within
    `interval_ms` (1 to 60,000). `none`: as soon as it is written; the disk follows when the operating system sees fit.
    A power cut on a majority takes back acknowledged writes under the last two.
    """

    mode: str = "fsync"
    interval_ms: int = 0

    def __post_init__(self) -> None:
        if self.mode not in {"fsync", "interval", "none"}:
            raise ConfigError(f"durability is {self.mode!r}; choose fsync, interval:MILLISECONDS or none")
        if self.mode == "interval":
            _within("durability interval", self.interval_ms, 1, 60_000)
        elif self.interval_ms:
            raise ConfigError(f"durability {self.mode} takes no interval; write it without one, or interval:50")

    @classmethod
    def parse(cls, text: str) -> Durability:
        """Read `fsync`, `interval:50` or `none`. Raises ConfigError for anything else."""
        mode, colon, milliseconds = text.partition(":")
        if not colon:
            return cls(mode)
        if not (milliseconds.isascii() and milliseconds.isdigit()):
            raise ConfigError(f"durability is {text!r}; write the interval in milliseconds, as in interval:50")
        if mode != "interval":
            raise ConfigError(f"durability is {text!r}; only interval takes milliseconds, as in interval:50")
        return cls(mode, int(milliseconds))

    @property
    def is_safe(self) -> bool:
        """Whether an acknowledgement survives a power cut."""
        return self.mode == "fsync"

    def __str__(self) -> str:
        return f"interval:{self.interval_ms}" if self.mode == "interval" else self.mode


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Everything one node process is told at its start.

    `application` is `MODULE:CLASS`; `listen_*` default to the node's own member addresses; `import_paths` are put in
    front of `sys.path` before the application is imported. `parent_fd`, when not negative, is the read end of a pipe:
    the node ends itself when the other end closes. `ready_fd`, when not negative, is the write end of another one, for
    one line of JSON that says whether the node serves. Standard output and error are then its log; one with more than
    `log_bytes_max` (1 KiB to 1 TiB) is put aside, and the one before goes. `durability` is what `Durability.parse`
    reads. A data folder that has not come to `incarnation_min` is refused, with 1 an empty one, with more an old copy:
    a node that has forgotten its vote or what it acknowledged must not take part. The ready line tells the incarnation
    that a node serves with. The file `witness_path`, outside of `data_dir`, keeps what the node has shown to others:
    data that holds less, as a copy from before does, is refused as well; empty for none (docs/guarantees.md). Before it
    takes part, a node asks the others for at most `ask_members_ms` whether their configurations agree with its own, and
    again from time to time while it knows no leader; 0: it never asks.
    """

    cluster_id: int
    node_id: int
    data_dir: Path
    members: tuple[Member, ...]
    application: str = "raftactors.app.kv:KeyValue"
    listen_peer_address: str = ""
    listen_client_address: str = ""
    listen_snapshot_address: str = ""
    timing: RaftTiming = field(default_factory=RaftTiming)
    limits: Limits = field(default_factory=Limits)
    pre_vote: bool = True
    check_quorum: bool = True
    switch_interval_us: int = 500
    watchdog_ms: int = 5_000
    application_watchdog_ms: int = 60_000
    drain_ms: int = 2_000
    ask_members_ms: int = 300
    log_level: str = "INFO"
    durability: str = "fsync"
    import_paths: tuple[str, ...] = ()
    parent_fd: int = -1
    ready_fd: int = -1
    log_bytes_max: int = 8 * 1024 * 1024
    incarnation_min: int = 0
    witness_path: str = ""

    def __post_init__(self) -> None:
        _within("cluster_id", self.cluster_id, 1, 2**63 - 1)
        _within("node_id", self.node_id, 1, 2**63 - 1)
        _within("switch_interval_us", self.switch_interval_us, 10, 1_000_000)
        _within("watchdog_ms", self.watchdog_ms, 100, 600_000)
        _within("application_watchdog_ms", self.application_watchdog_ms, 100, 86_400_000)
        _within("drain_ms", self.drain_ms, 0, 600_000)
        _within("log_bytes_max", self.log_bytes_max, 1024, 1024**4)
        _within("ask_members_ms", self.ask_members_ms, 0, 5_000)
        _within("incarnation_min", self.incarnation_min, 0, 2**63 - 1)
        if self.log_level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ConfigError(f"log_level is {self.log_level!r}; choose DEBUG, INFO, WARNING or ERROR")
        Durability.parse(self.durability)
        if self.witness_path and Path(self.witness_path).absolute().is_relative_to(self.data_dir.absolute()):
            raise ConfigError(
                f"witness_path is {self.witness_path!r}, which is in the data folder {self.data_dir}: a copy of the "
                "data would take it along; name a file outside of it, best on another disk"
            )
        ids = [member.node_id for member in self.members]
        if len(set(ids)) != len(ids):
            raise ConfigError(f"members name a node id twice: {sorted(ids)}")
        if self.node_id not in ids:
            raise ConfigError(f"node {self.node_id} is not among the members {sorted(ids)}; add it with its addresses")
        for member in self.members:
            split_address("peer_address", member.peer_address)
            split_address("client_address", member.client_address)
            if member.snapshot_address:
                split_address("snapshot_address", member.snapshot_address)
        module, _, name = self.application.partition(":")
        if not module or not name:
            raise ConfigError(f"application is {self.application!r}; write it as MODULE:CLASS")

    @property
    def me(self) -> Member:
        """This node's own entry among the members."""
        return next(member for member in self.members if member.node_id == self.node_id)

    def to_json(self) -> str:
        """The form that `from_json` reads."""
        document = dataclasses.asdict(self)
        document["data_dir"] = str(self.data_dir)
        return json.dumps(document, indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> NodeConfig:
        """Read a configuration. Raises ConfigError for anything that does not fit, unknown keys included."""
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"the node configuration is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise ConfigError("the node configuration must be a JSON object")
        document["data_dir"] = Path(document.get("data_dir", ""))
        document["members"] = tuple(_build(Member, member) for member in document.get("members", ()))
        document["timing"] = _build(RaftTiming, document.get("timing", {}))
        document["limits"] = _build(Limits, document.get("limits", {}))
        document["import_paths"] = tuple(document.get("import_paths", ()))
        return _build(cls, document)


def hash_seed(cluster_id: int) -> str:
    """The PYTHONHASHSEED of every node of a cluster: iterating a set must give one order on all replicas.

    It differs between clusters, so that nobody can prepare colliding keys for all of them.
    """
    return str(cluster_id % 2**32)


def application_identity(spec: str) -> str:
    """What stays equal when the same class is named by module, by file or from a moved folder.

    `pkg.bank:Bank`, `bank:Bank` and `/home/ann/bank.py:Bank` all give `bank:Bank`.
    """
    where, _, name = spec.rpartition(":")
    stem = Path(where).stem if where.endswith(".py") else where.rpartition(".")[2]
    return f"{stem}:{name}"


def split_address(name: str, address: str) -> tuple[str, int]:
    """Split `host:port` (IPv6 hosts in brackets). Raises ConfigError naming the field."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not (port.isascii() and port.isdigit()) or not 0 <= int(port) <= 65_535:
        raise ConfigError(f"{name} is {address!r}; write it as HOST:PORT with a port of 0 to 65535")
    return host, int(port)


def _within(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number from {low} to {high}")


def _build(kind: type[_T], values: Mapping[str, Any]) -> _T:
    """Construct a configuration record, turning unknown or missing keys into a ConfigError."""
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{kind.__name__}: {error}") from error
