"""The composition root of one node: opens the data folder and the sockets, wires the actors, starts and stops them."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pykka
import zmq

from raftactors.actors.application import ApplicationActor
from raftactors.actors.consensus import Consensus
from raftactors.actors.gateway import Gateway
from raftactors.actors.guard import ConnectionGuard, GuardWaiter
from raftactors.actors.mailbox import Lane
from raftactors.actors.mailboxes import Mailboxes, make_mailboxes
from raftactors.actors.messages import Drain
from raftactors.actors.monitor import Monitor, Watchdog
from raftactors.actors.polling import PollWaiter
from raftactors.actors.restoring import restore_core
from raftactors.actors.scrubber import Scrubber
from raftactors.actors.snapshot_transfer import SnapshotTransferActor
from raftactors.actors.snapshot_trigger import SnapshotTrigger
from raftactors.actors.snapshot_writer import SnapshotWriterActor
from raftactors.actors.storage import StorageActor
from raftactors.actors.ticker import Ticker
from raftactors.actors.transport import TransportActor
from raftactors.app.host import ApplicationHost
from raftactors.app.loading import load_application
from raftactors.app.on_disk_host import make_host
from raftactors.app.option_arguments import option_arguments
from raftactors.config import Durability, NodeConfig
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import Snapshot
from raftactors.node.output import fill_standard_descriptors
from raftactors.storage import FileSystem, OpenedStorage, open_data_dir
from raftactors.storage.opening import SNAPSHOT_FOLDER
from raftactors.storage.scrubbing import scrub
from raftactors.storage.snapshots import SnapshotFolder
from raftactors.transport import ClientEndpoint, PeerNetwork, SnapshotNetwork
from raftactors.transport.connections import ConnectionAccount

log = logging.getLogger("raftactors.node")

STOP_TIMEOUT_S = 5.0
"""How long one actor may take to stop before the process ends without it."""


APPLICATION_FOLDER = "app"
"""Where in the data folder an application keeps its own data, if it does."""


Starter: TypeAlias = Callable[[], pykka.ActorRef[Any]]
"""Starts one actor."""


class Node:
    """The composition root: opens the data folder and the sockets, builds the actors and starts them.

    The constructor raises what a start-up can run into: ApplicationUnknownError, ForeignDataError, DataLockedError,
    DataLostError, CorruptWalError, CorruptSnapshotError, AddressInUseError. After it returned, nothing is running yet;
    `start` cannot fail.
    """

    def __init__(self, config: NodeConfig, *, files: FileSystem | None = None) -> None:
        """Open folder and sockets; `files` stands in for the real file system."""
        self.config = config
        self.leader_id = 0
        """The leader that this node knows, 0: none; at most a tick old."""
        application = load_application(config.application, config.import_paths)
        fill_standard_descriptors()  # Before anything is opened: its module may have closed some.
        self._option_arguments = option_arguments(application)
        with contextlib.ExitStack() as undo:
            self.context = zmq.Context()
            undo.callback(self.context.destroy, linger=0)
            self.storage: OpenedStorage = open_data_dir(
                config.data_dir,
                cluster_id=config.cluster_id,
                node_id=config.node_id,
                segment_bytes=config.limits.segment_bytes,
                files=files,
                durability=Durability.parse(config.durability),
                incarnation_min=config.incarnation_min,
                witness_path=Path(config.witness_path) if config.witness_path else None,
            )
            undo.callback(self.storage.close)
            self.network = PeerNetwork(config, self.storage.incarnation, context=self.context)
            undo.callback(self.network.close)
            self.snapshot_network: SnapshotNetwork | None = None
            if config.me.snapshot_address:
                self.snapshot_network = SnapshotNetwork(config, self.storage.incarnation, context=self.context)
                undo.callback(self.snapshot_network.close)
            self.endpoint = ClientEndpoint(config, self.storage.incarnation, context=self.context)
            undo.callback(self.endpoint.close)
            host = make_host(
                application(),
                folder=config.data_dir / APPLICATION_FOLDER,
                limits=config.limits,
                node_id=config.node_id,
            )
            undo.callback(host.close)
            folder = config.data_dir / SNAPSHOT_FOLDER
            self.snapshots = SnapshotFolder(self.storage.files, folder, cluster_id=config.cluster_id)
            self.snapshots.tidy(self.storage.records)
            self._build(host, self.snapshots.choose(self.storage))
            # From here on the actors own the sockets and `stop` releases the rest.
            undo.pop_all()

    @property
    def incarnation(self) -> int:
        """How often this data folder was opened, this time included."""
        return self.storage.incarnation

    def _build(self, host: ApplicationHost, snapshot: Snapshot | None) -> None:
        config, opened = self.config, self.storage
        to = self._mailboxes()
        raft, memory_log = restore_core(config, opened, snapshot)
        host.check_log(memory_log.last_index(), memory_log.term)
        if snapshot is not None and host.applied_index < snapshot.index:
            with contextlib.closing(self.snapshots.reader(snapshot.term, snapshot.index)) as reader:
                host.restore_from(reader.chunks())
        index = 0 if snapshot is None else snapshot.index
        trigger = SnapshotTrigger(config.limits, index=index, tick_ms=config.timing.tick_ms)
        self._to = to
        self._running: dict[str, pykka.ActorRef[Any]] = {}
        # In the order of starting: whoever is told something stands before the one who tells.
        self._starters: dict[str, Starter] = {
            "monitor": self._monitor_starter(snapshot),
            **self._storing_starters(),
            "application": partial(
                ApplicationActor.start,
                to.application,
                host=host,
                incarnation=opened.incarnation,
                consensus=to.consensus,
                gateway=to.gateway,
                monitor=to.monitor,
                snapshots=self.snapshots,
                trigger=trigger,
                limits=config.limits,
            ),
            **self._serving_starters(raft, memory_log),
        }

    def _monitor_starter(self, snapshot: Snapshot | None) -> Starter:
        config, to = self.config, self._to
        watched = dict.fromkeys((to.ticker, to.consensus, to.storage, to.transport, to.gateway), config.watchdog_ms)
        # These may be at work on something large: a batch of the application, a file.
        for mailbox in (to.application, to.snapshot_writer, to.snapshot_transfer, to.scrubber, to.guard):
            watched[mailbox] = config.application_watchdog_ms
        return partial(
            Monitor.start,
            to.monitor,
            config=config,
            incarnation=self.incarnation,
            durability=self.storage.wal.durability,
            gateway=to.gateway,
            watchdog=Watchdog(watched),
            snapshot=snapshot or Snapshot(),
            on_leader=self._take_leader,
        )

    def _take_leader(self, leader_id: int) -> None:
        self.leader_id = leader_id

    def _storing_starters(self) -> dict[str, Starter]:
        config, opened, to = self.config, self.storage, self._to
        return {
            "snapshot_writer": partial(
                SnapshotWriterActor.start,
                to.snapshot_writer,
                folder=self.snapshots,
                wal_folder=opened.wal.folder,
                limits=config.limits,
                storage=to.storage,
                consensus=to.consensus,
                application=to.application,
                monitor=to.monitor,
            ),
            "snapshot_transfer": partial(
                SnapshotTransferActor.start,
                to.snapshot_transfer,
                config=config,
                network=self.snapshot_network,
                folder=self.snapshots,
                consensus=to.consensus,
                application=to.application,
                monitor=to.monitor,
            ),
            "scrubber": partial(
                Scrubber.start,
                to.scrubber,
                begin_pass=partial(scrub, opened.wal.folder, self.snapshots, opened.wal.identity),
                limits=config.limits,
                monitor=to.monitor,
            ),
            "storage": partial(
                StorageActor.start,
                to.storage,
                node_id=config.node_id,
                wal=opened.wal,
                hard_state=opened.hard_state,
                consensus=to.consensus,
                transport=to.transport,
                snapshot_writer=to.snapshot_writer,
            ),
        }

    def _serving_starters(self, raft: RawNode, memory_log: MemoryStorage) -> dict[str, Starter]:
        config, to = self.config, self._to
        return {
            "guard": partial(
                ConnectionGuard.start,
                to.guard,
                accounts=self._accounts(),
                waiter=self._guard_waiter,
                monitor=to.monitor,
            ),
            "transport": partial(
                TransportActor.start, to.transport, network=self.network, consensus=to.consensus, monitor=to.monitor
            ),
            "consensus": partial(
                Consensus.start,
                to.consensus,
                config=config,
                incarnation=self.incarnation,
                raft=raft,
                log=memory_log,
                neighbours=to.neighbours(),
            ),
            "gateway": partial(
                Gateway.start,
                to.gateway,
                config=config,
                endpoint=self.endpoint,
                consensus=to.consensus,
                application=to.application,
                monitor=to.monitor,
                option_arguments=self._option_arguments,
            ),
            "ticker": partial(
                Ticker.start,
                to.ticker,
                tick_ms=config.timing.tick_ms,
                listeners=[to.consensus, to.transport, to.gateway, to.application, to.snapshot_transfer],
            ),
        }

    def _mailboxes(self) -> Mailboxes:
        network, endpoint = self.snapshot_network, self.endpoint
        self._guard_waiter = GuardWaiter(self._accounts())
        transport = PollWaiter(self.network.sockets)
        gateway = PollWaiter(lambda: [endpoint.socket])
        snapshot_transfer = PollWaiter(lambda: [] if network is None else network.sockets())
        self._waiters = (transport, gateway, snapshot_transfer, self._guard_waiter)
        return make_mailboxes(
            self.config.limits.mailbox_messages_max,
            transport=transport,
            gateway=gateway,
            snapshot_transfer=snapshot_transfer,
            guard=self._guard_waiter,
        )

    def _accounts(self) -> dict[str, ConnectionAccount]:
        """The connections of each listener."""
        accounts = {"peers": self.network.account, "clients": self.endpoint.account}
        if self.snapshot_network is not None:
            accounts["snapshots"] = self.snapshot_network.account
        return accounts

    def start(self) -> None:
        """Start the actors; the ticker last, so that no tick meets a half-built node."""
        for name, start in self._starters.items():
            self._running[name] = start()

    def stop(self, *, drain: bool) -> None:
        """Stop serving. With `drain`, first hand leadership over and answer what is under way (at most `drain_ms`)."""
        if drain:
            drained = threading.Semaphore(0)
            drainable = (self._to.consensus, self._to.gateway)
            for mailbox in drainable:
                mailbox.tell(Drain(drained.release), Lane.CONTROL)
            for _ in drainable:
                drained.acquire(timeout=self.config.drain_ms / 1000)
        for name in (
            "guard",
            "ticker",
            "gateway",
            "application",
            "consensus",
            "snapshot_transfer",
            "storage",
            "transport",
        ):
            self._running[name].stop(timeout=STOP_TIMEOUT_S)
        # One that writes a large snapshot may not come to its end in time; what it leaves is removed at the next start.
        for name in ("snapshot_writer", "scrubber", "monitor"):
            with contextlib.suppress(pykka.Timeout):
                self._running[name].stop(timeout=STOP_TIMEOUT_S)
        for waiter in self._waiters:
            waiter.close()
        self.storage.close()
        self.context.destroy(linger=0)
