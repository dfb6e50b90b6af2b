"""A cluster of one thread: the real client endpoint and the real application host, without a log and without peers.

Every frame that would go through the log is applied at once. Switches make it refuse, or keep silent.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from raftactors.app.application import Application
from raftactors.app.host import ApplicationHost
from raftactors.app.kv import KeyValue
from raftactors.app.option_arguments import option_arguments
from raftactors.codec import frames, replies
from raftactors.codec.batch import encode_batch
from raftactors.codec.frames import LOGGED_KINDS, FrameKind, Welcome
from raftactors.config import Limits, Member, NodeConfig
from raftactors.core.types import Entry, EntryType
from raftactors.transport.client_endpoint import ClientEndpoint
from raftactors.transport.wakeup import Wakeup

ORIGIN = 1
"""The node that every batch names as its origin, so that nodes may share a host."""


class FakeNode:
    """One node that leads itself. `leader_id` other than its own makes it answer RETRY with that hint."""

    def __init__(
        self,
        application: Application | None = None,
        *,
        node_id: int = 1,
        cluster_id: int = 7,
        limits: Limits | None = None,
        address: str = "127.0.0.1:0",
        incarnation: int = 1,
        host: ApplicationHost | None = None,
    ) -> None:
        self.limits = limits or Limits()
        config = NodeConfig(
            cluster_id=cluster_id,
            node_id=node_id,
            data_dir=Path("unused"),
            members=(Member(node_id=node_id, peer_address="127.0.0.1:0", client_address=address),),
            limits=self.limits,
        )
        self._context: zmq.Context[Any] = zmq.Context()
        self._endpoint = ClientEndpoint(config, incarnation, self._context)
        self.address = self._endpoint.address
        self.node_id = self.leader_id = node_id
        self.cluster_id = cluster_id
        self.members = [(node_id, self.address)]
        self.silent = False
        self.greets = True
        self.busy_frames = 0
        self.host = host or ApplicationHost(application or KeyValue(), limits=self.limits, node_id=ORIGIN)
        self.frames_taken = 0
        self.queries_taken = 0
        self._wakeup = Wakeup()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fake-node")

    def __enter__(self) -> FakeNode:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._wakeup.signal()
        self._thread.join()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._endpoint.socket, zmq.POLLIN)
        poller.register(self._wakeup.fileno(), zmq.POLLIN)
        while not self._stopping:
            poller.poll()
            for routing_id, envelope, body in self._endpoint.receive(512):
                request, rest = frames.split_request(body)
                if envelope.kind == FrameKind.HELLO:
                    if self.greets:
                        self._endpoint.send(routing_id, FrameKind.WELCOME, frames.encode_welcome(self._welcome()))
                    continue
                self.frames_taken += 1
                if self.silent:
                    continue
                answer = replies.encode_replies([(request, self._answer(envelope.kind, rest))])
                self._endpoint.send(routing_id, FrameKind.REPLIES, answer)
        self._endpoint.close()
        self._wakeup.close()
        self._context.term()

    def _answer(self, kind: int, rest: memoryview) -> bytes:
        if kind == FrameKind.ADMIN:
            admin = frames.decode_admin(rest)
            if admin.operation == "status":
                return replies.encode_document(self.leader_id, {"node_id": self.node_id, "leader_id": self.leader_id})
            return replies.encode_rejected(self.leader_id, f"no such operation: {admin.operation}")
        if self.leader_id != self.node_id:
            return replies.encode_retry(self.leader_id)
        if self.busy_frames > 0:
            self.busy_frames -= 1
            return replies.encode_busy(self.leader_id, 5)
        if kind == FrameKind.QUERIES:
            self.queries_taken += len(frames.decode_queries(rest).queries)
            return self.host.query(self.host.applied_index, rest)
        assert kind in LOGGED_KINDS
        batch = encode_batch(
            [(1, bytes((kind,)) + rest)],
            origin_node=ORIGIN,
            origin_incarnation=1,
            timestamp_ms=time.monotonic_ns() // 1_000_000,
        )
        entry = Entry(1, self.host.applied_index + 1, batch, EntryType.NORMAL)
        return self.host.apply(entry, origin_incarnation=1)[0][1]

    def _welcome(self) -> Welcome:
        limits = {
            "command_bytes_max": self.limits.command_bytes_max,
            "client_frame_bytes_max": self.limits.client_frame_bytes_max,
            "session_inflight_max": self.limits.session_inflight_max,
            "session_ttl_ms": self.limits.session_ttl_ms,
        }
        pairs = option_arguments(type(self.host.application))
        return Welcome(self.node_id, self.leader_id, self.members, limits, "fake:KeyValue", self.cluster_id, pairs)
