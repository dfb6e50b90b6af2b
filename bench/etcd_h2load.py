"""How many writes a second does a three-node etcd on this machine take?

Starts etcd (Debian: etcd-server, etcd-client) on loopback with its default settings, which sync every write, and
drives its gRPC Put with h2load (Debian: nghttp2-client). h2load is written in C, so little of the machine goes to
the load. It sends one body for ever: every write goes to the same key. Nothing is believed until the store confirms
it: its revision must have grown by what h2load counted as success.

    python bench/etcd_h2load.py --connections 16 --inflight 16 --seconds 10
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measurement import Measurement, cpu_seconds, environment, percentile, report

_KEY = b"bench/throughput"
_START_ATTEMPTS = 3
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
EXIT_SKIPPED = 77


class BenchError(Exception):
    """The benchmark could not be carried out; the text says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """What h2load is told. `seconds` is the measured period, `warmup_seconds` runs before it and is not counted."""

    connections: int
    inflight: int
    value_bytes: int
    seconds: float
    warmup_seconds: float


@dataclass(frozen=True, slots=True)
class EtcdNode:
    """One etcd process and where its clients reach it."""

    process: subprocess.Popen[bytes]
    client_port: int


def missing_programs() -> list[str]:
    """The Debian packages that this benchmark needs and this machine lacks."""
    needed = {"etcd": "etcd-server", "etcdctl": "etcd-client", "h2load": "nghttp2-client"}
    return [package for program, package in needed.items() if shutil.which(program) is None]


def put_request_body(key: bytes, value: bytes) -> bytes:
    """A gRPC message (flag byte, big-endian length) holding etcdserverpb.PutRequest {key = 1, value = 2}."""
    message = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value
    return struct.pack(">BI", 0, len(message)) + message


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


@contextlib.contextmanager
def etcd_cluster(data_dir: Path, nodes: int = 3) -> Iterator[list[EtcdNode]]:
    """A running cluster that has a leader. Every process is reaped at the end, whatever happens."""
    with contextlib.ExitStack() as stack:
        for attempt in range(_START_ATTEMPTS):
            started = stack.enter_context(_started(data_dir / f"attempt-{attempt}", nodes))
            if _wait_for_leader(started):
                yield started
                return
            # A port may have been taken between asking for it and listening on it: begin again with others.
            stack.close()
        raise BenchError(f"etcd did not elect a leader in {_START_ATTEMPTS} attempts; see {data_dir}")


@contextlib.contextmanager
def _started(data_dir: Path, nodes: int) -> Iterator[list[EtcdNode]]:
    ports = _free_ports(2 * nodes)
    peers = {f"node{i}": f"http://127.0.0.1:{ports[nodes + i]}" for i in range(nodes)}
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
    running: list[EtcdNode] = []
    try:
        for i, (name, peer_url) in enumerate(peers.items()):
            client_url = f"http://127.0.0.1:{ports[i]}"
            (data_dir / name).mkdir(parents=True, mode=0o700)
            command = ["etcd", "--name", name, "--data-dir", str(data_dir / name), "--logger", "zap"]
            command += ["--log-level", "error", "--initial-cluster-token", "bench"]
            command += ["--listen-client-urls", client_url, "--advertise-client-urls", client_url]
            command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
            command += ["--initial-cluster", ",".join(f"{member}={url}" for member, url in peers.items())]
            with (data_dir / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ)
            running.append(EtcdNode(process, ports[i]))
        yield running
    finally:
        _reap([node.process for node in running])


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _reap(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _etcdctl(nodes: Sequence[EtcdNode], *arguments: str) -> object:
    endpoints = ",".join(f"http://127.0.0.1:{node.client_port}" for node in nodes)
    command = ["etcdctl", "--endpoints", endpoints, "--write-out", "json", *arguments]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
    done = subprocess.run(
        command, env=environ | {"ETCDCTL_API": "3"}, capture_output=True, text=True, check=False, timeout=_START_SECONDS
    )
    if done.returncode:
        raise BenchError(f"etcdctl {arguments[0]} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def _leader(nodes: Sequence[EtcdNode]) -> EtcdNode | None:
    answers = _etcdctl(nodes, "endpoint", "status")
    assert isinstance(answers, list)
    for node, answer in zip(nodes, answers, strict=True):
        status = answer["Status"]
        if status["header"]["member_id"] == status.get("leader", 0):
            return node
    return None


def _wait_for_leader(nodes: Sequence[EtcdNode]) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and all(node.process.poll() is None for node in nodes):
        with contextlib.suppress(BenchError, ValueError):
            if _leader(nodes) is not None:
                return True
        time.sleep(0.1)
    return False


def _revision(nodes: Sequence[EtcdNode]) -> int:
    """The store's revision, read through consensus; read until two answers agree, as writes may still be in flight."""
    before = -1
    while True:
        answer = _etcdctl(nodes, "get", _KEY.decode(), "--keys-only")
        assert isinstance(answer, dict)
        revision = int(answer["header"]["revision"])
        if revision == before:
            return revision
        before = revision


def measure(nodes: Sequence[EtcdNode], load: Load, work_dir: Path, *, number: int = 1) -> Measurement:
    """Drive the leader for the warm-up and then for the measured period, and check the store afterwards.

    Raises BenchError when the writes did not happen.
    """
    leader = _leader(nodes)
    if leader is None:
        raise BenchError("etcd lost its leader before the measurement")
    body, log = work_dir / "put-request", work_dir / "latencies"
    body.write_bytes(put_request_body(_KEY, b"v" * load.value_bytes))
    if load.warmup_seconds:
        _h2load(leader, load, body, None, load.warmup_seconds)
    pids = [node.process.pid for node in nodes]
    log.unlink(missing_ok=True)
    revision, cpu = _revision(nodes), cpu_seconds(pids)
    output = _h2load(leader, load, body, log, load.seconds)
    cpu = cpu_seconds(pids) - cpu
    counted = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    finished = re.search(r"finished in ([\d.]+)(us|ms|s)", output)
    if counted is None or finished is None:
        raise BenchError(f"h2load printed no summary:\n{output}")
    succeeded, *failed = (int(count) for count in counted.groups())
    growth = _revision(nodes) - revision
    unanswered = load.connections * load.inflight
    # At the end of the period h2load leaves what is in flight: it may be written, and is not counted as success.
    if not succeeded <= growth <= succeeded + unanswered:
        raise BenchError(f"h2load counted {succeeded} writes, the store's revision grew by {growth}\n{output}")
    times = sorted(int(line.split("\t")[2]) / 1000.0 for line in log.read_text().splitlines())
    return Measurement(
        system="etcd",
        round=number,
        writes=succeeded,
        errors=sum(failed),
        seconds=float(finished[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[finished[2]],
        mean_ms=sum(times) / len(times) if times else None,
        p50_ms=percentile(times, 0.50),
        p99_ms=percentile(times, 0.99),
        server_cpu_us=cpu / succeeded * 1e6 if succeeded else None,
        verified=f"store +{growth}",
    )


def _h2load(leader: EtcdNode, load: Load, body: Path, log: Path | None, seconds: float) -> str:
    command = ["h2load", "-c", str(load.connections), "-m", str(load.inflight), "-D", f"{seconds:g}s"]
    command += ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    command += [] if log is None else ["--log-file", str(log)]
    command.append(f"http://127.0.0.1:{leader.client_port}/etcdserverpb.KV/Put")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + _START_SECONDS)
    if done.returncode:
        raise BenchError(f"h2load ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def main() -> int:
    """Parse the command line, measure, print. Returns the exit code; 77 says that a program is missing."""
    parser = argparse.ArgumentParser(description="Writes a second of a three-node etcd, driven by h2load.")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--inflight", type=int, default=16, help="requests in flight on each connection")
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warmup-seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dir", type=Path, help="parent of the data folder; name one on the disk to be measured")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if missing := missing_programs():
        print(f"skipped: this benchmark needs the Debian packages {', '.join(missing)}", file=sys.stderr)
        return EXIT_SKIPPED
    load = Load(options.connections, options.inflight, options.value_bytes, options.seconds, options.warmup_seconds)
    parameters = {name: value for name, value in vars(options).items() if name not in {"json", "dir"}}
    with tempfile.TemporaryDirectory(prefix="bench-etcd-", dir=options.dir) as folder:
        work_dir = Path(folder)
        parameters |= {"nodes": 3, "sync": "every write, by fdatasync of its batch", "keys": 1} | environment(work_dir)
        try:
            with etcd_cluster(work_dir) as nodes:
                results = [measure(nodes, load, work_dir, number=i + 1) for i in range(options.rounds)]
        except BenchError as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
    report("etcd, gRPC Put at the leader", parameters, results, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
