"""Log lines: written in order, and never waited for."""

from __future__ import annotations

import io
import logging
import os
import threading

from raftactors.actors import log_writer
from raftactors.actors.log_writer import LogWriter


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, __file__, 1, text, None, None)


def test_lines_come_out_in_order_before_close_returns() -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)
    for number in range(100):
        writer.emit(record(f"line {number}"))
    writer.close()
    assert stream.getvalue().splitlines() == [f"line {number}" for number in range(100)]


def test_a_stream_that_nobody_reads_blocks_nobody_and_the_loss_is_counted() -> None:
    reader, descriptor = os.pipe()
    with os.fdopen(descriptor, "w", buffering=1) as stream:
        writer = LogWriter(stream)
        emitted = log_writer.QUEUED_LINES_MAX + 5_000
        done = threading.Event()

        def emit() -> None:
            for _ in range(emitted):
                writer.emit(record("x" * 100))
            done.set()

        emitting = threading.Thread(target=emit)
        emitting.start()
        # A pipe holds 64 KiB, so without the queue this would stop after some six hundred lines.
        assert done.wait(30)
        emitting.join()
        assert writer.dropped > 1_000
        drained = threading.Thread(target=lambda: _drain(reader))
        drained.start()
        writer.close()
    drained.join(30)
    assert not drained.is_alive()


def _drain(reader: int) -> None:
    while os.read(reader, 1 << 16):
        pass
    os.close(reader)
