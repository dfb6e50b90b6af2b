"""Nodes that are run by hand, on three addresses of this machine."""

from __future__ import annotations

import os
import selectors
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from raftactors.cluster.ports import hold_port
from raftactors.config_file import ENVIRONMENT_PREFIX, variable_of

from .conftest import COMMAND, NAMING_A_CLUSTER, Done

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
END_TIMEOUT_S = 60


def environment(**changed: str) -> dict[str, str]:
    """That of this process, without what would name a cluster or configure a node; members may answer late."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in NAMING_A_CLUSTER and not name.startswith(ENVIRONMENT_PREFIX)
    }
    return inherited | {variable_of("ask_members_ms"): "5000"} | changed


class HandRun:
    """A folder of configurations, ports that are held for their members, and the processes that were started."""

    def __init__(self, folder: Path, hosts: Sequence[str] = HOSTS) -> None:
        self.folder = folder
        self._resources = ExitStack()
        self.members: dict[int, str] = {}
        self.client_addresses: dict[int, str] = {}
        for node_id, host in enumerate(hosts, 1):
            held = [hold_port(host=host) for _ in range(3)]
            for port in held:
                self._resources.callback(port.close)
            self.members[node_id] = f"{node_id}={host}:{','.join(str(port.port) for port in held)}"
            self.client_addresses[node_id] = held[1].address

    def __enter__(self) -> HandRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def command(self, *words: str, **changed: str) -> Done:
        """Run one command to its end, in the folder."""
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=environment(**changed),
            capture_output=True,
            text=True,
            timeout=END_TIMEOUT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def init(self, *words: str, members: Mapping[int, str] | None = None) -> Done:
        """Write the files of all members."""
        named = [word for member in (members or self.members).values() for word in ("--member", member)]
        return self.command("node", "init", *words, *named)

    def start(self, *words: str, **changed: str) -> subprocess.Popen[str]:
        """Start one node; it is killed at the end at the latest."""
        process = subprocess.Popen(
            [*COMMAND, "node", "run", *words],
            cwd=self.folder,
            env=environment(**changed),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._resources.callback(_reap, process)
        return process

    def put(self, key: str, value: str, address: str) -> Done:
        """Write once the nodes have elected a leader, which the client waits for."""
        return self.command("put", key, value, "--address", address, "--timeout-ms", "30000")


def ready_line(process: subprocess.Popen[str]) -> str:
    """The first line of standard output; empty if the process ends without one."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(END_TIMEOUT_S), "the node did not serve"
    return process.stdout.readline()


def end_of(process: subprocess.Popen[str]) -> Done:
    """Wait for the end of a process and take all that it left."""
    out, err = process.communicate(timeout=END_TIMEOUT_S)
    return Done(process.returncode, out, err)


def _reap(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
