"""A process that plays all strangers of a campaign at once, each kind on a thread of its own, spread over the time.

It is a process of its own so that the load it makes does not slow down those who measure.
"""

from __future__ import annotations

import multiprocessing
import resource
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from multiprocessing.connection import Connection
from random import Random
from types import TracebackType
from typing import Self

from raftactors import LocalCluster
from raftactors.codec.frames import encode_call
from raftactors.config import NodeConfig
from tests.durability.hostile_connections import (
    ZMTP_ATTACKS,
    SlowReader,
    Wire,
    multipart_bomb,
    mutated_frames,
    raw_garbage,
)

PORTS = ("client", "peer", "snapshot")
"""The kinds of ports that a node has."""
BURST_FRAMES = 60
RAW_BURST_FRAMES = 20
BLANK_BYTES = 16 * 1024
QUERIES_A_FRAME = 256
ASKED_FRAMES = 16
"""So a slow reader asks for 64 MiB."""
SLOW_READER_S = 5.0
STOP_TIMEOUT_S = 30.0
_TELL_S = 0.2
_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of each kind, over at least `duration_s`. Nothing goes on for longer than `duration_s_max`."""

    duration_s: float
    duration_s_max: float
    idle_connections: int = 0
    raw_frames: int = 0
    zmtp_frames: int = 0
    bombs: int = 0
    bomb_bytes: int = 400 * 1024 * 1024
    slow_readers: int = 0

    def targets(self) -> dict[str, int]:
        """What is to be reached, by kind."""
        names = ("idle_connections", "raw_frames", "zmtp_frames", "bombs", "slow_readers")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name in names}


class IdleConnections:
    """Connections that say nothing, half of them after a proper handshake; those that the node ends are let go."""

    def __init__(self) -> None:
        self._open: dict[int, socket.socket] = {}
        self._poll = select.poll()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, address: str, *, greeted: bool) -> None:
        """Open one more. Raises OSError."""
        wire = Wire(address)
        try:
            if greeted:
                wire.greet()
        except OSError:
            wire.socket.close()
            raise
        wire.socket.setblocking(False)
        self._open[wire.socket.fileno()] = wire.socket
        self._poll.register(wire.socket, select.POLLIN)

    def let_go(self) -> None:
        """Read and forget what came, and close what the node has ended."""
        for descriptor, _ in self._poll.poll(0):
            try:
                ended = not self._open[descriptor].recv(65_536)
            except BlockingIOError:
                continue
            except OSError:
                ended = True
            if ended:
                self._poll.unregister(descriptor)
                self._open.pop(descriptor).close()

    def close(self) -> None:
        """Close all."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()


class Strangers:
    """Runs a plan against nodes; `done` counts what was done of each kind."""

    def __init__(self, plan: Plan, ports: dict[str, list[str]], cluster_id: int, seed: int) -> None:
        """`ports` are the addresses of each kind of port: client, peer, snapshot."""
        self.done: Counter[str] = Counter()
        self.stop = threading.Event()
        self._plan = plan
        self._ports = ports
        self._all = [address for addresses in ports.values() for address in addresses]
        self._cluster_id = cluster_id
        self._seed = seed
        self._started_s = time.monotonic()
        self._idle = IdleConnections()

    def start(self) -> list[threading.Thread]:
        """Let all kinds loose; each thread ends when its part of the plan is done, the time is up, or at `stop`."""
        kinds: tuple[tuple[str, Callable[[Random], int]], ...] = (
            ("idle_connections", self._open_idle),
            ("raw_frames", self._send_raw),
            ("zmtp_frames", self._speak_zmtp),
            ("bombs", self._bomb),
            ("slow_readers", self._read_slowly),
        )
        threads = [
            threading.Thread(target=self._spread, args=(name, attack, Random(self._seed + number)), name=name)
            for number, (name, attack) in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        return threads

    def close(self) -> None:
        """Hang up what still stands."""
        self._idle.close()

    @property
    def idle_now(self) -> int:
        """Idle connections that stand."""
        return len(self._idle)

    def _spread(self, name: str, attack: Callable[[Random], int], rng: Random) -> None:
        """Do a kind of attack in steps, so that it is always as far as the time is."""
        target = self._plan.targets()[name]
        while self.done[name] < target and not self.stop.is_set():
            passed = (time.monotonic() - self._started_s) / self._plan.duration_s
            if self.done[name] >= target * passed:
                self.stop.wait(_PAUSE_S)
                continue
            self.done[name] += attack(rng)

    def _open_idle(self, rng: Random) -> int:
        self._idle.let_go()
        with suppress(OSError):
            self._idle.open(rng.choice(self._all), greeted=rng.random() < 0.5)
            return 1
        return 0

    def _send_raw(self, rng: Random) -> int:
        return raw_garbage(rng.choice(self._all), rng, RAW_BURST_FRAMES)

    def _speak_zmtp(self, rng: Random) -> int:
        attack = rng.choice(ZMTP_ATTACKS)
        if attack is mutated_frames:
            attack = partial(mutated_frames, cluster_id=self._cluster_id)
        return attack(rng.choice(self._all), rng, BURST_FRAMES)

    def _bomb(self, rng: Random) -> int:
        kind = PORTS[self.done["bombs"] % len(PORTS)]
        old = self.done["bombs"] // len(PORTS) % 2 == 1
        return int(multipart_bomb(rng.choice(self._ports[kind]), self._plan.bomb_bytes, old=old) > 0)

    def _read_slowly(self, rng: Random) -> int:
        with suppress(OSError):
            query = encode_call("blank", [BLANK_BYTES])
            reader = SlowReader(rng.choice(self._ports["client"]), self._cluster_id, query)
            reader.ask(ASKED_FRAMES, QUERIES_A_FRAME)
            self.stop.wait(SLOW_READER_S)
            reader.close()
            return 1
        return 0


def play(pipe: Connection, plan: Plan, ports: dict[str, list[str]], cluster_id: int, seed: int) -> None:
    """The whole life of the process: tells `done` on the pipe again and again, once more at its end, then ends.

    The other side may close the pipe to stop it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    strangers = Strangers(plan, ports, cluster_id, seed)
    threads = strangers.start()
    deadline_s = time.monotonic() + plan.duration_s_max
    with suppress(BrokenPipeError, ConnectionResetError):
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline_s:
            pipe.send(dict(strangers.done) | {"idle_now": strangers.idle_now})
            time.sleep(_TELL_S)
    strangers.stop.set()
    for thread in threads:
        thread.join()
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.send(dict(strangers.done) | {"idle_now": strangers.idle_now})
    strangers.close()


class HostileProcess:
    """Strangers against a cluster, in a process of their own (spawned); `with` ends it whatever happens."""

    def __init__(self, cluster: LocalCluster, plan: Plan, seed: int) -> None:
        config = NodeConfig.from_json(cluster.nodes[min(cluster.nodes)].config_path.read_text())
        ports = {kind: [getattr(member, f"{kind}_address") for member in config.members] for kind in PORTS}
        self.idle_max = 0
        """The most idle connections that stood at once."""
        self._done = dict.fromkeys(plan.targets(), 0)
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        arguments = (there, plan, ports, cluster.cluster_id, seed)
        self._process = context.Process(target=play, args=arguments, name="strangers")
        self._process.start()
        there.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(STOP_TIMEOUT_S)
        self._process.kill()
        self._process.join()

    @property
    def is_alive(self) -> bool:
        """Whether the plan is still being carried out."""
        return self._process.exitcode is None

    def listen(self) -> dict[str, int]:
        """What was done so far, by kind."""
        with suppress(EOFError, ConnectionResetError):
            while self._pipe.poll():
                told = self._pipe.recv()
                self.idle_max = max(self.idle_max, told.pop("idle_now"))
                self._done |= told
        return dict(self._done)
