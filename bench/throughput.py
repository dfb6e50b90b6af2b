"""How many writes a second does a cluster on this machine take, and how does etcd do under the same load?

Starts node processes, each of which syncs every write to disk before it acknowledges it, and drives them from separate
load processes. The warm-up is not counted. Afterwards the store is asked: its version must have grown by exactly
the acknowledged writes, so a lost and a repeated write would both be seen.

    python bench/throughput.py --connections 16 --inflight 16
    python bench/throughput.py --against etcd --rounds 3

With `--against etcd` the two systems take turns, each round on a fresh cluster. etcd is driven by h2load, a C program,
which leaves it more of the machine than our load processes in Python leave us.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import etcd_h2load
from etcd_h2load import BenchError, Load
from measurement import Measurement, cpu_seconds, environment, median, percentile, report

from raftactors.cluster import LocalCluster
from raftactors.errors import RaftActorsError

_WORKER = Path(__file__).with_name("load_worker.py")
_GRACE_SECONDS = 90.0


@contextlib.contextmanager
def _workers(orders: list[dict[str, Any]]) -> Iterator[list[subprocess.Popen[str]]]:
    """The load processes, connected and waiting for the word; none outlives the block."""
    with contextlib.ExitStack() as stack:
        running: list[subprocess.Popen[str]] = []
        for one in orders:
            command = [sys.executable, str(_WORKER)]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            running.append(process)
            _tell(process, json.dumps(one))
        for process in running:
            _hear(process)
        yield running


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchError(f"a load process ended with {process.wait()} before it had answered")
    return line


def _orders(options: argparse.Namespace, cluster: LocalCluster, work_dir: Path) -> list[dict[str, Any]]:
    numbers = range(options.connections)
    return [
        {
            "addresses": list(cluster.addresses.values()),
            "cluster_id": cluster.cluster_id,
            "connections": list(numbers[index :: options.processes]),
            "inflight": options.inflight,
            "value_bytes": options.value_bytes,
            "keys": max(1, options.keys // options.connections),
            "warmup_seconds": options.warmup_seconds,
            "seconds": options.seconds,
            "latencies_file": str(work_dir / f"latencies-{index}"),
        }
        for index in range(options.processes)
    ]


def measure(options: argparse.Namespace, work_dir: Path, *, number: int = 1) -> Measurement:
    """One round on a fresh cluster. Raises BenchError when the store does not confirm the writes."""
    work_dir.mkdir()
    with LocalCluster(options.nodes, data_dir=work_dir / "cluster") as cluster, cluster.client() as client:
        cluster.wait_leader()
        before = client.call("put", "before", b"")
        orders = _orders(options, cluster, work_dir)
        pids = [node.pid for node in cluster.nodes.values()]
        with _workers(orders) as workers:
            for worker in workers:
                _tell(worker, "go")
            time.sleep(options.warmup_seconds)
            cpu = cpu_seconds(pids)
            time.sleep(options.seconds)
            cpu = cpu_seconds(pids) - cpu
            counts = [json.loads(_hear(worker)) for worker in workers]
            for worker in workers:
                worker.wait(_GRACE_SECONDS)
        growth = client.call("put", "after", b"") - before - 1
    written, errors = (sum(count[name] for count in counts) for name in ("writes_in_all", "errors"))
    if not written <= growth <= written + errors:
        raise BenchError(f"{written} writes were acknowledged, {errors} failed, the store's version grew by {growth}")
    for first_error in {count["first_error"] for count in counts} - {""}:
        print(f"error: {first_error}", file=sys.stderr)
    times = array("d")
    for one in orders:
        times.frombytes(Path(one["latencies_file"]).read_bytes())
    ordered, writes = sorted(times), sum(count["writes"] for count in counts)
    return Measurement(
        system="raftactors",
        round=number,
        writes=writes,
        errors=errors,
        seconds=options.seconds,
        mean_ms=sum(ordered) / len(ordered) if ordered else None,
        p50_ms=percentile(ordered, 0.50),
        p99_ms=percentile(ordered, 0.99),
        server_cpu_us=cpu / writes * 1e6 if writes else None,
        verified=f"store +{growth}",
    )


def measure_etcd(options: argparse.Namespace, work_dir: Path, *, number: int = 1) -> Measurement:
    """One round of etcd on a fresh cluster, under the same number of connections and commands in flight."""
    work_dir.mkdir()
    load = Load(options.connections, options.inflight, options.value_bytes, options.seconds, options.warmup_seconds)
    with etcd_h2load.etcd_cluster(work_dir, options.nodes) as nodes:
        return etcd_h2load.measure(nodes, load, work_dir, number=number)


def _ratio_line(results: list[Measurement]) -> str:
    rates = {
        system: median([one.writes_per_s for one in results if one.system == system])
        for system in ("raftactors", "etcd")
    }
    return (
        f"median writes/s: raftactors {rates['raftactors']:,.0f}, etcd {rates['etcd']:,.0f}, "
        f"ratio {rates['raftactors'] / rates['etcd']:.2f}"
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Writes a second of a cluster on this machine, every write synced.")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16, help="clients, each with a session of its own")
    parser.add_argument("--inflight", type=int, default=16, help="commands in flight on each connection")
    parser.add_argument("--processes", type=int, default=2, help="load processes that share the connections")
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--keys", type=int, default=10_000, help="keys that the writes go round (etcd: one)")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warmup-seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--against", choices=["etcd"], help="let this system take turns with ours")
    parser.add_argument("--dir", type=Path, help="parent of the data folders; name one on the disk to be measured")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not 1 <= options.processes <= options.connections:
        parser.error(f"--processes is {options.processes}; it must be 1 to --connections ({options.connections})")
    return options


def main() -> int:
    """Parse the command line, measure, print. Returns the exit code; 77 says that a program is missing."""
    options = _parse()
    if options.against and (missing := etcd_h2load.missing_programs()):
        print(f"skipped: --against etcd needs the Debian packages {', '.join(missing)}", file=sys.stderr)
        return etcd_h2load.EXIT_SKIPPED
    parameters = {name: value for name, value in vars(options).items() if name not in {"json", "dir"}}
    results: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir) as folder:
        work_dir = Path(folder)
        parameters |= {"sync": "every write, by fdatasync of its batch"} | environment(work_dir)
        try:
            for number in range(1, options.rounds + 1):
                results.append(measure(options, work_dir / f"raftactors-{number}", number=number))
                if options.against:
                    results.append(measure_etcd(options, work_dir / f"etcd-{number}", number=number))
        except (BenchError, RaftActorsError) as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
    summary = _ratio_line(results) if options.against else ""
    report("Writes through a cluster", parameters, results, as_json=options.json, summary=summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
