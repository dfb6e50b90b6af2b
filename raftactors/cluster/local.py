"""A whole cluster on this machine: one operating-system process a node, held together by the calling process."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raftactors.client import Client
from raftactors.cluster.application import refer_to
from raftactors.cluster.control import ControlServer
from raftactors.cluster.descriptors import require_descriptors
from raftactors.cluster.folder import ClusterFolder
from raftactors.cluster.forking import ForkGuard
from raftactors.cluster.manifest import Manifest
from raftactors.cluster.node_folder import CONFIG_NAME, least_incarnation, log_file, witness_path
from raftactors.cluster.ports import HeldPort, hold_port
from raftactors.cluster.private_files import make_folders
from raftactors.cluster.probe import StatusProbe
from raftactors.cluster.process import NODE_COMMAND, NODE_MARK, NodeProcess, NodeStartError, Usage
from raftactors.cluster.process_record import ProcessRecord
from raftactors.cluster.supervisor import BackOff, NodeState, Supervisor
from raftactors.config import Limits, Member, NodeConfig, RaftTiming
from raftactors.errors import ClusterUnreachableError, ConfigError

NODES_MAX = 31
KEY_VALUE = "raftactors.app.kv:KeyValue"
_LEADER_POLL_S = 0.02


class LocalCluster:
    """A cluster of `nodes` processes on 127.0.0.1 that runs `application`.

    `application` is a class at the top level of a module or script, or the text `MODULE:CLASS` or `FILE.py:CLASS`. With
    `data_dir` the cluster is durable: a later start in the same folder goes on where it was, on new ports. Without, it
    lives in a temporary folder that goes when the `with` block ends without an exception. `base_port` 0 takes ports
    from the system; otherwise node n listens on `base_port + 2n - 2` for peers and on the next port for clients;
    the ports behind those of all nodes are for snapshots.
    `node_options` are further fields of NodeConfig.

    With `majority_suffices` a start leaves out nodes whose data is damaged or lost, as long as the others are a
    majority; status tells which and why, `raftactors rebuild` makes them anew.

    Nodes that die on their own are started again with an exponential back-off; nodes that were killed by `kill` stay
    dead until `restart`. When this process ends, however it ends, the nodes end themselves. The cluster belongs to the
    process that started it: in a forked copy every method raises RaftActorsError, and leaving the block does nothing.
    """

    def __init__(
        self,
        nodes: int = 3,
        application: str | type = KEY_VALUE,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        timing: RaftTiming | None = None,
        limits: Limits | None = None,
        base_port: int = 0,
        start_timeout_ms: int = 30_000,
        back_off: BackOff | None = None,
        node_options: Mapping[str, Any] | None = None,
        search_in: tuple[str, ...] = (),
        command: tuple[str, ...] = NODE_COMMAND,
        majority_suffices: bool = False,
    ) -> None:
        """Check the arguments; nothing is started. Raises ConfigError or ApplicationUnknownError."""
        if type(nodes) is not int or not 1 <= nodes <= NODES_MAX:
            raise ConfigError(f"nodes is {nodes!r}; it must be a whole number from 1 to {NODES_MAX}")
        if base_port and not 1 <= base_port <= 65_536 - 3 * nodes:
            raise ConfigError(f"base_port is {base_port}; {nodes} nodes need a number from 1 to {65_536 - 3 * nodes}")
        self._count = nodes
        self._application = refer_to(application, search_in=search_in)
        self._data_dir = None if data_dir is None else Path(data_dir)
        self._base_port = base_port
        self._start_timeout_ms = start_timeout_ms
        self._back_off = back_off
        self._command = command
        self._damaged_max = (nodes - 1) // 2 if majority_suffices else 0
        self._node_options: dict[str, Any] = {
            **(node_options or {}),
            "timing": timing or RaftTiming(),
            "limits": limits or Limits(),
        }
        self._node_configs(Path("/"), 1, _example_members(nodes))
        self._stopping = threading.Lock()
        self._fork = ForkGuard()
        self._resources = ExitStack()
        self._clients: weakref.WeakSet[Client] = weakref.WeakSet()
        self._control: ControlServer | None = None
        self._is_running = False
        self.stopped = threading.Event()
        """Set when the cluster has been stopped, also by `raftactors down` from another process."""

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start all nodes and return when they serve, without those that `majority_suffices` lets it leave out.

        Raises what keeps it from starting, with nothing left behind: AddressInUseError, ApplicationUnknownError,
        ConfigError, CorruptWalError, DataLockedError, DataLostError, ForeignDataError, NodeStartError.
        """
        if NODE_MARK in os.environ:
            raise ConfigError(
                "a node that imports your program must not start a cluster; "
                'put the start of the cluster under `if __name__ == "__main__":`'
            )
        if self._is_running:
            self._fork.refuse_copy()
            raise ConfigError("the cluster runs already; stop it first")
        self._fork = ForkGuard()
        require_descriptors(self._count)
        self._folder = ClusterFolder(self._data_dir, nodes=self._count, application=self._application)
        self._resources = ExitStack()
        try:
            self._start_nodes()
        except BaseException as error:
            self._resources.close()
            self._folder.close(remove=not isinstance(error, NodeStartError))
            raise
        self.stopped.clear()
        self._is_running = True
        return self

    def stop(self) -> None:
        """Let the nodes hand over, drain and end; release ports and folder. May be called twice."""
        self._fork.refuse_copy()
        self._stop(remove=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._fork.is_copy:
            return
        if error is not None:
            error.add_note(f"the cluster's data and logs are kept in {self._folder.path}")
        self._stop(remove=error is None)

    def _start_nodes(self) -> None:
        folder, resources = self._folder, self._resources
        members = self._hold_ports(resources)
        self._manifest: Manifest = folder.new_manifest(members)
        self._manifest.save(folder.path)
        self._manifest_lock = threading.Lock()
        self.nodes: dict[int, NodeProcess] = {}
        self._configs: dict[int, NodeConfig] = {}
        for config in self._node_configs(folder.path, folder.cluster_id, members):
            path = folder.node_path(config.node_id)
            make_folders(path)
            least = least_incarnation(path) if folder.has_served else 0
            self._configs[config.node_id] = dataclasses.replace(config, incarnation_min=least)
            process = NodeProcess(
                config.node_id, path / CONFIG_NAME, log_file(folder.path, config.node_id), command=self._command
            )
            process.configure(self._configs[config.node_id])
            self.nodes[config.node_id] = process
        self._supervisor = Supervisor(
            self.nodes,
            back_off=self._back_off,
            start_timeout_ms=self._start_timeout_ms,
            drain_ms=int(self._node_options.get("drain_ms", 2_000)),
            damaged_max=self._damaged_max,
            on_change=self._take_change,
        )
        # Closed after the supervisor, whose end releases an operation that may be waiting for a node.
        resources.callback(self._close_control)
        resources.callback(self._supervisor.stop)
        self._probe = StatusProbe(self._manifest.client_addresses, folder.cluster_id)
        resources.callback(self._probe.close)
        self._supervisor.start()
        self._control = ControlServer(self._operate, folder.path, closes_after=lambda operation: operation == "down")
        me = ProcessRecord.of(os.getpid(), node_id=0)
        self._save(has_served=True, supervisor=me, control_socket=self._control.path)
        self._note_incarnations()

    def _stop(self, *, remove: bool) -> None:
        with self._stopping:
            if self._is_running:
                self._is_running = False
                for client in list(self._clients):
                    client.close()
                try:
                    self._resources.close()
                    self._save(processes=(), supervisor=None, control_socket="")
                finally:
                    self._folder.close(remove=remove)
                    self.stopped.set()
        # A `down` of another process may have stopped us: its reply is to leave before we do.
        self._close_control()

    def _close_control(self) -> None:
        if self._control is not None:
            self._control.close()

    # --- what it consists of --------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The data folder."""
        return self._folder.path

    @property
    def cluster_id(self) -> int:
        """The identity of the cluster, kept in the data folder."""
        return self._folder.cluster_id

    @property
    def addresses(self) -> dict[int, str]:
        """Where clients reach each node, `host:port` by node id."""
        return self._manifest.client_addresses

    def client(self, **options: Any) -> Client:
        """A new client of this cluster; `options` go to Client. It is closed with the cluster at the latest."""
        self._fork.refuse_copy()
        options.setdefault("limits", self._node_options["limits"])
        client = Client(list(self.addresses.values()), cluster_id=self.cluster_id, **options)
        self._clients.add(client)
        return client

    # --- what it is doing -----------------------------------------------------------------------------------------

    def node_statuses(self) -> dict[int, dict[str, Any]]:
        """The status documents of the nodes that run and answer in time, by node id."""
        self._fork.refuse_copy()
        return self._probe.ask([n for n in self.nodes if self._supervisor.state(n) is NodeState.RUNNING])

    def status(self) -> dict[str, Any]:
        """What all nodes do: their process as the supervisor sees it and, where they answer, their own document."""
        documents = self.node_statuses()
        return {
            "cluster_id": self.cluster_id,
            "application": self._application.spec,
            "data_dir": str(self.path),
            "leader_id": _leader_of(documents),
            "nodes": [self._describe(node_id, documents.get(node_id)) for node_id in self.nodes],
        }

    def usage(self) -> dict[int, Usage]:
        """CPU and memory of each node's process."""
        self._fork.refuse_copy()
        return {node_id: process.usage() for node_id, process in self.nodes.items()}

    def leader(self) -> int:
        """Id of the node that leads in the highest term, 0 if none answers as leader."""
        return _leader_of(self.node_statuses())

    def wait_leader(self, timeout_ms: int = 10_000) -> int:
        """Wait until a node leads and return its id. Raises ClusterUnreachableError after `timeout_ms`."""
        deadline = time.monotonic() + timeout_ms / 1000
        while not (leader_id := self.leader()):
            if time.monotonic() > deadline or self.stopped.wait(_LEADER_POLL_S):
                raise ClusterUnreachableError(f"no leader within {timeout_ms} ms; see the logs in {self.path}")
        return leader_id

    # --- what may be done to its nodes ----------------------------------------------------------------------------

    def kill(self, node_id: int) -> None:
        """End a node with SIGKILL; it stays dead until `restart`."""
        self._own().kill(node_id)

    def pause(self, node_id: int) -> None:
        """Stop a node's process where it stands (SIGSTOP)."""
        self._own().pause(node_id)

    def resume(self, node_id: int) -> None:
        """Let a paused node go on (SIGCONT)."""
        self._own().resume(node_id)

    def restart(self, node_id: int) -> None:
        """Start a node again, ending it in order first if it runs; returns when it serves."""
        self._own().restart(node_id)

    def _own(self) -> Supervisor:
        self._fork.refuse_copy()
        return self._supervisor

    # --- inside ---------------------------------------------------------------------------------------------------

    def _operate(self, operation: str, node_id: int | None) -> object:
        """What `raftactors` commands of other processes ask for."""
        if operation == "status":
            return self.status()
        if operation == "down":
            self.stop()
            return "stopped"
        actions = {"kill": self.kill, "pause": self.pause, "resume": self.resume, "restart": self.restart}
        if operation not in actions or node_id is None:
            raise ConfigError(f"operation {operation!r} of node {node_id} does not exist")
        actions[operation](node_id)
        return {"node_id": node_id, "state": str(self._supervisor.state(node_id))}

    def _describe(self, node_id: int, document: dict[str, Any] | None) -> dict[str, Any]:
        process, usage = self.nodes[node_id], self.nodes[node_id].usage()
        return {
            "node_id": node_id,
            "state": str(self._supervisor.state(node_id)),
            "reason": self._supervisor.reason(node_id),
            "restarts": self._supervisor.restarts(node_id),
            "pid": process.pid if process.is_alive else 0,
            "cpu_percent": usage.cpu_percent,
            "rss_bytes": usage.rss_bytes,
            "client_address": self.addresses[node_id],
            "raft": document,
        }

    def _hold_ports(self, resources: ExitStack) -> tuple[Member, ...]:
        def hold(offset: int) -> HeldPort:
            held = hold_port(self._base_port + offset if self._base_port else 0)
            resources.callback(held.close)
            return held

        return tuple(
            Member(
                node_id=number + 1,
                peer_address=hold(2 * number).address,
                client_address=hold(2 * number + 1).address,
                snapshot_address=hold(2 * self._count + number).address,
            )
            for number in range(self._count)
        )

    def _node_configs(self, folder: Path, cluster_id: int, members: tuple[Member, ...]) -> list[NodeConfig]:
        try:
            return [
                NodeConfig(
                    cluster_id=cluster_id,
                    node_id=member.node_id,
                    data_dir=folder / f"node-{member.node_id}" / "data",
                    members=members,
                    application=self._application.spec,
                    import_paths=self._application.import_paths,
                    **{"witness_path": str(witness_path(folder, member.node_id)), **self._node_options},
                )
                for member in members
            ]
        except TypeError as error:
            raise ConfigError(f"node_options: {error}") from error

    def _take_change(self) -> None:
        """Called by the supervisor when a node was started or has ended."""
        self._probe.renew()
        self._note_incarnations()
        self._save(
            processes=tuple(
                process.record for process in self.nodes.values() if process.is_alive and process.record is not None
            )
        )

    def _note_incarnations(self) -> None:
        """A node that has served is not to be started with less than it had then."""
        with self._manifest_lock:
            for node_id, config in self._configs.items():
                if self.nodes[node_id].incarnation > config.incarnation_min:
                    noted = dataclasses.replace(config, incarnation_min=self.nodes[node_id].incarnation)
                    self._configs[node_id] = noted
                    self.nodes[node_id].configure(noted)

    def _save(self, **changes: Any) -> None:
        with self._manifest_lock:
            self._manifest = dataclasses.replace(self._manifest, **changes)
            self._manifest.save(self._folder.path)


def _example_members(count: int) -> tuple[Member, ...]:
    """Addresses that nobody uses, to check all other settings before anything is started."""
    return tuple(
        Member(node_id=number, peer_address="127.0.0.1:0", client_address="127.0.0.1:0")
        for number in range(1, count + 1)
    )


def _leader_of(documents: Mapping[int, dict[str, Any]]) -> int:
    leaders = [
        (int(document["term"]), node_id) for node_id, document in documents.items() if document.get("role") == "leader"
    ]
    return max(leaders, default=(0, 0))[1]
