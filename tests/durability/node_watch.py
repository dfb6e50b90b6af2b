"""What the processes of nodes take while something is done to them, and which of them die on their own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil

from raftactors import LocalCluster

RSS_BYTES_MAX = 256 * 1024 * 1024
SPARE_DESCRIPTORS = 16
"""How many more a node may hold at the end: segments and snapshots come and go."""
SPARE_THREADS = 2
CALM_TIMEOUT_S = 20.0
"""How long a node may take to let go of what strangers have left."""
SAMPLE_S = 0.1
LOG_TAIL_BYTES = 16 * 1024


class Span(NamedTuple):
    """A count before, at its most, and after."""

    before: int = 0
    most: int = 0
    after: int = 0


@dataclass(slots=True)
class Measured:
    """What one node took, over all its processes, and why it died on its own."""

    deaths: list[str] = field(default_factory=list)
    rss_bytes_max: int = 0
    descriptors: Span = field(default_factory=Span)
    threads: Span = field(default_factory=Span)

    @property
    def is_flat(self) -> bool:
        """Whether descriptors and threads are what they were before."""
        return (
            self.descriptors.after <= self.descriptors.before + SPARE_DESCRIPTORS
            and self.threads.after <= self.threads.before + SPARE_THREADS
        )

    def faults(self) -> list[str]:
        """What is not as it has to be, a line each."""
        found = [f"died: {reason}" for reason in self.deaths]
        if self.rss_bytes_max > RSS_BYTES_MAX:
            found.append(f"took {self.rss_bytes_max >> 20} MiB of memory, {RSS_BYTES_MAX >> 20} are allowed")
        if not self.is_flat:
            found.append(f"did not come back to what it had: {self.descriptors} descriptors, {self.threads} threads")
        return found


class Watch(threading.Thread):
    """Samples the processes of all nodes of a cluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__(name="watch", daemon=True)
        self.measured = {node_id: Measured() for node_id in cluster.nodes}
        self._cluster = cluster
        self._ending = threading.Event()

    def begin(self) -> None:
        """Take the first sample and go on in a thread of its own."""
        for node_id, measured in self.measured.items():
            descriptors, threads = self._sample(node_id)
            measured.descriptors = Span(descriptors, descriptors, descriptors)
            measured.threads = Span(threads, threads, threads)
        self.start()

    def run(self) -> None:
        while not self._ending.wait(SAMPLE_S):
            for node_id in self.measured:
                self._note(node_id)

    def end(self) -> None:
        """Take the last sample, when the nodes have come back to what they had or had time enough for that."""
        self._ending.set()
        self.join()
        deadline_s = time.monotonic() + CALM_TIMEOUT_S
        for node_id, measured in self.measured.items():
            self._note(node_id)
            while not measured.is_flat and time.monotonic() < deadline_s:
                time.sleep(SAMPLE_S)
                self._note(node_id)

    def last_words(self, node_id: int) -> str:
        """What a library said before it ended the node; empty if nothing in the log tells."""
        path = self._cluster.nodes[node_id].log_path
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            lines = log.read(LOG_TAIL_BYTES).decode(errors="replace").splitlines()
        said = [line for line in lines if "ssertion" in line or "Fatal Python error" in line]
        return said[-1] if said else ""

    def _note(self, node_id: int) -> None:
        measured = self.measured[node_id]
        descriptors, threads = self._sample(node_id)
        most = max(measured.descriptors.most, descriptors)
        measured.descriptors = measured.descriptors._replace(most=most, after=descriptors)
        measured.threads = measured.threads._replace(most=max(measured.threads.most, threads), after=threads)

    def _sample(self, node_id: int) -> tuple[int, int]:
        """Descriptors and threads; none of both while the node does not run."""
        measured = self.measured[node_id]
        try:
            process = psutil.Process(self._cluster.nodes[node_id].pid)
            measured.rss_bytes_max = max(measured.rss_bytes_max, process.memory_info().rss)
            return process.num_fds(), process.num_threads()
        except psutil.Error:
            return 0, 0


@contextmanager
def listening(watch: Watch) -> Iterator[None]:
    """Write down what the supervisor says about nodes that died although nobody asked for it."""
    handler = _Deaths(watch)
    logger = logging.getLogger("raftactors.cluster")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Deaths(logging.Handler):
    """Understands the supervisor's `node %d died: %s`."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(logging.WARNING)
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        match record.args:
            case (int(node_id), str(reason)) if "died" in record.msg:
                said = self._watch.last_words(node_id)
                self._watch.measured[node_id].deaths.append(f"{reason.partition(': ')[0]}: {said}" if said else reason)
