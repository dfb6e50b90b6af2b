"""Hold every acknowledgement of real node processes against the syncs that had completed before it left.

A shim between the nodes and the operating system notes when each fdatasync had returned and when each reply began to
leave; one monotonic clock orders all processes of the machine. Afterwards the segments tell which entries each write
held. For an acknowledged index, a quorum of nodes must have synced it before the first byte of the reply was sent.

Run as a script for the long version: python tests/durability/order_oracle.py --acks 100000
"""

from __future__ import annotations

import argparse
import bisect
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Started as a script, the folder of the tests is not on the path.
    sys.path.insert(0, str(ROOT))

from raftactors import LocalCluster  # noqa: E402
from raftactors.codec import replies  # noqa: E402
from raftactors.codec.frames import FrameKind  # noqa: E402
from raftactors.config import Limits  # noqa: E402
from raftactors.storage.blocks import BLOCK_BYTES  # noqa: E402
from raftactors.storage.record import RECORD_HEADER_BYTES, RecordType, decode_batch_end, padded, read_header  # noqa: E402
from raftactors.storage.replay import LogState, scan_segment  # noqa: E402
from raftactors.storage.segment import decode_segment_header  # noqa: E402
from raftactors.transport.envelope import CLIENT_MAGIC, decode_envelope  # noqa: E402
from tests.cluster.ledger import Ledger  # noqa: E402
from tests.durability.load import Load  # noqa: E402
from tests.durability.shim import Record, Shim  # noqa: E402

GREETING_BYTES = 64
MORE, LONG, COMMAND = 1, 2, 4
FRAME_BYTES_MAX = 16 * 1024 * 1024


@dataclass
class Verdict:
    """What came out for one cluster."""

    nodes: int
    acknowledgements: int = 0
    """Executed commands whose replies were traced."""
    replies: int = 0
    syncs: int = 0
    early: int = 0


def zmtp_messages(sends: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The messages of one connection in the direction that was traced, each with the time its first byte was sent."""
    stream = b"".join(piece for _, piece in sends)
    starts, total = [], 0
    for _, piece in sends:
        starts.append(total)
        total += len(piece)
    position = GREETING_BYTES
    while position < len(stream):
        flags, start = stream[position], position
        width = 8 if flags & LONG else 1
        length = int.from_bytes(stream[position + 1 : position + 1 + width], "big")
        position += 1 + width + length
        if position > len(stream):
            return  # The end of the run cut it off; it was never received.
        if not flags & COMMAND:
            yield sends[bisect.bisect_right(starts, start) - 1][0], stream[position - length : position]


class NodeTrace:
    """What one node's process did: which syncs had completed when, and which replies left when."""

    def __init__(self, records: Iterator[Record], client_port: int) -> None:
        self.writes: dict[int, list[tuple[int, int]]] = {}  # inode -> (sync completed, offset)
        self.syncs = 0
        self.connections: list[list[tuple[int, bytes]]] = []
        inodes: dict[int, int] = {}
        unsynced: dict[int, list[Record]] = {}
        streams: dict[int, list[tuple[int, bytes]]] = {}
        for record in records:
            if record.kind == "O":
                # Zeros that are written in advance cover every place of a later batch and say nothing about it.
                inodes[record.fd] = 0 if record.payload.endswith(b".tmp") else record.inode
                streams.pop(record.fd, None)
            elif record.kind == "W" and inodes[record.fd]:
                unsynced.setdefault(inodes[record.fd], []).append(record)
            elif record.kind == "S":
                self.syncs += 1
                self._sync(inodes[record.fd], record, unsynced)
            elif record.kind == "A":
                streams.pop(record.fd, None)
                if record.port == client_port:
                    streams[record.fd] = []
                    self.connections.append(streams[record.fd])
            elif record.kind == "D" and record.fd in streams:
                streams[record.fd].append((record.before_ns, record.payload))

    def _sync(self, inode: int, sync: Record, unsynced: dict[int, list[Record]]) -> None:
        """The sync covers what was completely written before it began."""
        waiting = unsynced.pop(inode, [])
        covered = [write for write in waiting if write.after_ns <= sync.before_ns]
        unsynced[inode] = [write for write in waiting if write.after_ns > sync.before_ns]
        self.writes.setdefault(inode, []).extend((sync.after_ns, write.offset) for write in covered)

    def replies(self) -> Iterator[tuple[int, int, int]]:
        """(time, index, commands) of every reply with results."""
        for connection in self.connections:
            for sent_ns, message in zmtp_messages(connection):
                envelope, body = decode_envelope(message, magic=CLIENT_MAGIC, body_bytes_max=FRAME_BYTES_MAX)
                if envelope.kind != FrameKind.REPLIES:
                    continue
                for _, part in replies.decode_replies(body):
                    reply = replies.decode_reply(part)
                    if isinstance(reply, replies.ResultsReply):
                        yield sent_ns, reply.index, len(reply.results)


class DurableLog:
    """When each end of the log of one node had become durable, in the order of the batches."""

    def __init__(self, data_dir: Path, node_id: int, cluster_id: int, trace: NodeTrace) -> None:
        self.log = LogState()
        self.ends: list[tuple[int, int, int]] = []  # (index, term, sync completed) of each batch.
        segments = sorted((data_dir / "wal").glob("*.wal"))
        assert segments[0].name.startswith(f"{1:016x}"), "segments were purged, so the trace cannot be read any more"
        for segment in segments:
            content = segment.read_bytes()
            header = decode_segment_header(content, file=segment.name, cluster_id=cluster_id, node_id=node_id)
            scan = scan_segment(segment.name, content, header, self.log)
            # A write reaches beyond its batch, over the place of the next: only the one that begins there counts.
            synced_at = {low: at for at, low in trace.writes.get(segment.stat().st_ino, [])}
            for start, index, term in _batches(content, header.salt, scan.stop):
                self.ends.append((index, term, synced_at.get(start, sys.maxsize)))
        assert self.ends[-1][:2] == (self.log.end.index, self.log.end.term), "the batches do not add up to the log"
        self.terms = {entry.index: entry.term for entry in self.log.entries}

    def durable_at(self, index: int, term: int) -> int:
        """When the entry was durable here: with the first batch that left a log of this term or a later one so long."""
        position = bisect.bisect_left(self._indexes(), index)
        for end_index, end_term, at in self.ends[position:]:
            if end_index >= index and end_term >= term:
                return at
        return sys.maxsize

    def _indexes(self) -> list[int]:
        if not hasattr(self, "_longest"):
            # The longest the log had been so far rises, so it can be searched.
            longest, self._longest = 0, []
            for index, _, _ in self.ends:
                longest = max(longest, index)
                self._longest.append(longest)
        return self._longest


def _batches(content: bytes, salt: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(start, last index, last term) of every batch of a segment."""
    start = offset = BLOCK_BYTES
    while offset < stop:
        header = read_header(content, offset, salt)
        assert header is not None
        length = RECORD_HEADER_BYTES + padded(header.length)
        if header.type == RecordType.BATCH_END:
            end = decode_batch_end(content, offset + RECORD_HEADER_BYTES)
            yield start, end.index, end.term
            start = offset + length
        offset += length


def judge(traces: dict[int, NodeTrace], logs: dict[int, DurableLog]) -> Verdict:
    """Count the acknowledgements, and those that left before a quorum had synced them."""
    verdict = Verdict(len(traces), syncs=sum(trace.syncs for trace in traces.values()))
    quorum = len(traces) // 2 + 1
    longest = max(logs.values(), key=lambda log: log.log.end.index)
    known: dict[int, int] = {}
    for trace in traces.values():
        for sent_ns, index, commands in trace.replies():
            verdict.replies += 1
            verdict.acknowledgements += commands
            if index not in known:
                times = sorted(log.durable_at(index, longest.terms[index]) for log in logs.values())
                known[index] = times[quorum - 1]
            if known[index] > sent_ns:
                verdict.early += commands
    return verdict


def run(nodes: int, acks: int, *, planted: bool = False) -> Verdict:
    """Trace a cluster of `nodes` until it has acknowledged `acks` commands, and judge it."""
    with tempfile.TemporaryDirectory() as folder, Shim(Path(folder) / "shim", nodes) as shim:
        command = shim.command(traced=True, bug="answers_first" if planted else "")
        data = Path(folder) / "cluster"
        limits = Limits(segment_bytes=16 * 1024 * 1024)
        with LocalCluster(nodes, Ledger, data_dir=data, limits=limits, command=command) as cluster:
            cluster.wait_leader(30_000)
            ports = {node: int(address.rpartition(":")[2]) for node, address in cluster.addresses.items()}
            cluster_id = cluster.cluster_id
            with Load(cluster, writers=16, inflight=4) as load:
                load.await_acknowledged(acks)
        traces = {node: NodeTrace(shim.trace(node), ports[node]) for node in ports}
        logs = {
            node: DurableLog(data / f"node-{node}" / "data", node, cluster_id, trace) for node, trace in traces.items()
        }
        return judge(traces, logs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--acks", type=int, default=100_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--planted", action="store_true", help="run nodes that answer too early; the oracle must tell")
    arguments = parser.parse_args()
    verdicts = []
    for nodes in arguments.sizes:
        verdicts.append(run(nodes, arguments.acks // len(arguments.sizes), planted=arguments.planted))
        print(json.dumps(asdict(verdicts[-1])), flush=True)
    total = sum(verdict.acknowledgements for verdict in verdicts)
    early = sum(verdict.early for verdict in verdicts)
    print(json.dumps({"acknowledgements": total, "early": early}))
    return 0 if total >= arguments.acks and (early > 0) == arguments.planted else 1


if __name__ == "__main__":
    raise SystemExit(main())
