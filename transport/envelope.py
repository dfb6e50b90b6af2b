"""The fixed header in front of every frame, and the gate that every frame from outside passes.

Layout, little endian, 48 bytes: magic 4s, version u8, kind u8, flags u16, cluster id u64, to u64, sender u64,
incarnation u64, body length u32, CRC32C u32 of the header (its own field zero) and the body; then the body. Each check
is cheap and has a reason of its own, the dearest (the checksum) comes last but one; a body is decoded only behind it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection
from enum import IntEnum
from typing import NamedTuple

from crc32c import crc32c

from raftactors.errors import WireError

PEER_MAGIC = b"RAFP"
CLIENT_MAGIC = b"RAFC"
SNAPSHOT_MAGIC = b"RAFS"
ENVELOPE_VERSION = 1

_CHECKED = struct.Struct("<4sBBHQQQQI")
_HEADER = struct.Struct("<4sBBHQQQQII")
_CRC = struct.Struct("<I")
_CRC_ZERO = bytes(_CRC.size)

ENVELOPE_BYTES = _HEADER.size
"""Bytes that a frame has beyond its body."""


class PeerKind(IntEnum):
    """The kind of a frame between peers. The numbers are the wire format and never change."""

    HELLO = 1
    HELLO_WANTED = 2
    RAFT = 3
    SNAPSHOT = 4
    BEAT = 5


class Envelope(NamedTuple):
    """Who sends what to whom. Node id 0 is a client or "any node", cluster id 0 means "not known yet"."""

    kind: int
    cluster_id: int
    to: int
    sender: int
    incarnation: int


def encode_envelope(magic: bytes, envelope: Envelope, body: bytes) -> bytes:
    """Put the header in front of `body`, which must be shorter than 2**32 bytes."""
    kind, cluster_id, to, sender, incarnation = envelope
    head = _CHECKED.pack(magic, ENVELOPE_VERSION, kind, 0, cluster_id, to, sender, incarnation, len(body))
    checksum = crc32c(body, crc32c(_CRC_ZERO, crc32c(head)))
    return b"".join((head, _CRC.pack(checksum), body))


def decode_envelope(
    frame: bytes,
    *,
    magic: bytes,
    body_bytes_max: int,
    identify: Callable[[Envelope], None] | None = None,
) -> tuple[Envelope, memoryview]:
    """Check length, magic, version, flags, identity, body length and checksum in this order; return header and body.

    `identify` is called with the header before the body is looked at, and raises WireError for a frame that is not
    for us. Raises WireError with the reason `short`, `magic`, `version`, `flags`, `body_length`, `body_oversize` or
    `checksum`. The body is a view of `frame`, not a copy.
    """
    if len(frame) < ENVELOPE_BYTES:
        raise WireError("short", f"{len(frame)} bytes, a header has {ENVELOPE_BYTES}")
    header = _HEADER.unpack_from(frame)
    found, version, kind, flags, cluster_id, to, sender, incarnation, body_bytes, checksum = header
    if found != magic:
        raise WireError("magic", f"{found!r} instead of {magic!r}")
    if version != ENVELOPE_VERSION:
        raise WireError("version", f"{version}, spoken is {ENVELOPE_VERSION}")
    if flags != 0:
        raise WireError("flags", f"{flags:#06x}, none is known")
    envelope = Envelope(kind, cluster_id, to, sender, incarnation)
    if identify is not None:
        identify(envelope)
    if body_bytes != len(frame) - ENVELOPE_BYTES:
        raise WireError("body_length", f"{len(frame) - ENVELOPE_BYTES} bytes follow, the header says {body_bytes}")
    if body_bytes > body_bytes_max:
        raise WireError("body_oversize", f"{body_bytes} bytes, at most {body_bytes_max}")
    view = memoryview(frame)
    body = view[ENVELOPE_BYTES:]
    if crc32c(body, crc32c(_CRC_ZERO, crc32c(view[: _CHECKED.size]))) != checksum:
        raise WireError("checksum", f"of a {body_bytes}-byte body")
    return envelope, body


class EnvelopeGate:
    """Lets frames of the other members through that are meant for this node, and counts the rest by reason.

    `incarnations` holds, by member, the incarnation that it last proved. Only the kinds of `GREETING_KINDS` pass
    without it: a misrouted or forged message never reaches Raft.
    """

    MAGIC = PEER_MAGIC
    GREETING_KINDS = frozenset({int(PeerKind.HELLO), int(PeerKind.HELLO_WANTED)})

    def __init__(
        self, *, cluster_id: int, node_id: int, peers: Collection[int], kinds: Collection[int], body_bytes_max: int
    ) -> None:
        self.drops: Counter[str] = Counter()
        self.incarnations: dict[int, int] = {}
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._peers = frozenset(peers)
        self._kinds = frozenset(int(kind) for kind in kinds)
        self._body_bytes_max = body_bytes_max
        self._ungreeted: set[int] = set()

    def check(self, frame: bytes) -> tuple[Envelope, memoryview]:
        """Return header and body. Raises WireError with the reason of the first check that fails, and counts nothing.

        Reasons beyond those of `decode_envelope`: `cluster_id`, `to`, `sender`, `incarnation_stale` (of a process
        that has been restarted since), `hello_missing` (not greeted yet) and `kind`.
        """
        envelope, body = decode_envelope(
            frame, magic=self.MAGIC, body_bytes_max=self._body_bytes_max, identify=self._identify
        )
        if envelope.kind not in self._kinds:
            raise WireError("kind", f"{envelope.kind} is not allowed here")
        return envelope, body

    def admit(self, frame: bytes) -> tuple[Envelope, memoryview] | None:
        """`check`, but a frame that fails is counted in `drops` by reason, and None is returned."""
        try:
            return self.check(frame)
        except WireError as error:
            self.drops[error.reason] += 1
            return None

    def confirm(self, sender: int, incarnation: int) -> None:
        """Record the incarnation that a member has proved. Raises WireError `incarnation_stale` for an older one."""
        self._refuse_stale(sender, incarnation)
        self.incarnations[sender] = incarnation

    def take_ungreeted(self) -> set[int]:
        """Members whose HELLO was missing since the last call; whoever owns the links asks them for it."""
        taken, self._ungreeted = self._ungreeted, set()
        return taken

    def _identify(self, envelope: Envelope) -> None:
        kind, cluster_id, to, sender, incarnation = envelope
        if cluster_id != self._cluster_id:
            raise WireError("cluster_id", f"{cluster_id}, ours is {self._cluster_id}")
        if to != self._node_id:
            raise WireError("to", f"node {to}, this is node {self._node_id}")
        if sender not in self._peers:
            raise WireError("sender", f"node {sender} is not another member")
        if kind in self.GREETING_KINDS or self.incarnations.get(sender) == incarnation:
            return
        self._refuse_stale(sender, incarnation)
        self._ungreeted.add(sender)
        raise WireError("hello_missing", f"incarnation {incarnation} of node {sender} has not greeted")

    def _refuse_stale(self, sender: int, incarnation: int) -> None:
        known = self.incarnations.get(sender)
        if known is not None and incarnation < known:
            raise WireError("incarnation_stale", f"{incarnation} of node {sender}, {known} has greeted")


class SnapshotGate(EnvelopeGate):
    """The gate of the snapshot socket: the same members, frames that fit no other socket."""

    MAGIC = SNAPSHOT_MAGIC


class NodeGate(EnvelopeGate):
    """The gate of a node towards its clients: they are nobody (sender 0) and may not know the cluster yet.

    Cluster id 0 passes with `greeting_kind` only, `to` 0 means any node.
    """

    MAGIC = CLIENT_MAGIC

    def __init__(
        self, *, cluster_id: int, node_id: int, greeting_kind: int, kinds: Collection[int], body_bytes_max: int
    ) -> None:
        super().__init__(cluster_id=cluster_id, node_id=node_id, peers=(), kinds=kinds, body_bytes_max=body_bytes_max)
        self._greeting_kind = greeting_kind

    def _identify(self, envelope: Envelope) -> None:
        kind, cluster_id, to, sender, incarnation = envelope
        if cluster_id != self._cluster_id and (cluster_id != 0 or kind != self._greeting_kind):
            raise WireError("cluster_id", f"{cluster_id}, ours is {self._cluster_id}")
        if to not in (0, self._node_id):
            raise WireError("to", f"node {to}, this is node {self._node_id}")
        if sender != 0:
            raise WireError("sender", f"{sender}, a client's is 0")
        if incarnation != 0:
            raise WireError("incarnation", f"{incarnation}, a client's is 0")


class ClientGate(EnvelopeGate):
    """The gate of a client towards a node. The first frame must be the welcome, and pins the cluster (id 0 before).

    A welcome of another incarnation is accepted: the node was restarted. Anything of an older one is dropped.
    """

    MAGIC = CLIENT_MAGIC

    def __init__(self, *, cluster_id: int, welcome_kind: int, kinds: Collection[int], body_bytes_max: int) -> None:
        super().__init__(cluster_id=cluster_id, node_id=0, peers=(), kinds=kinds, body_bytes_max=body_bytes_max)
        self._welcome_kind = welcome_kind

    @property
    def cluster_id(self) -> int:
        """The pinned cluster, 0 before the welcome when none was asked for."""
        return self._cluster_id

    def welcome(self, envelope: Envelope) -> None:
        """Pin the cluster and the node's incarnation by a welcome that has passed `check`."""
        self._cluster_id = envelope.cluster_id
        self.incarnations.clear()
        self.incarnations[envelope.sender] = envelope.incarnation

    def _identify(self, envelope: Envelope) -> None:
        kind, cluster_id, to, sender, incarnation = envelope
        if cluster_id == 0 or self._cluster_id not in (0, cluster_id):
            raise WireError("cluster_id", f"{cluster_id}, ours is {self._cluster_id or 'not known yet'}")
        if to != 0:
            raise WireError("to", f"node {to}, this is a client")
        if sender == 0:
            raise WireError("sender", "0, which is no node")
        known = self.incarnations.get(sender)
        if known is not None and incarnation < known:
            raise WireError("incarnation_stale", f"{incarnation} of node {sender}, {known} has greeted")
        if known != incarnation and kind != self._welcome_kind:
            raise WireError("welcome_missing", f"incarnation {incarnation} of node {sender} has not welcomed us")
