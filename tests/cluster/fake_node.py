"""A program with a node's process contract and nothing behind it; its configuration's `application` says how it acts.

serve: until SIGTERM or the parent's end. noise: serve, with much output around the report. deaf: never serve.
refuse: fail to start with the exit code APPLICATION_UNKNOWN. report: the same, and say so on the pipe alone.
crash: fail once it serves, always. crash_once: only the first time. stubborn: serve, and ignore SIGTERM. retire: serve,
then end with exit code DATA_CORRUPT. damaged: fail to start with that.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path


def main() -> int:
    config = json.loads(Path(sys.argv[1]).read_text())
    act = config["application"].partition(":")[0]
    counter = Path(sys.argv[1]).with_name("incarnation")
    incarnation = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(incarnation))
    if act == "refuse":
        print("a line of log", file=sys.stderr)
        print("raftactors: there is no module 'refuse'; install it", file=sys.stderr)
        return 11
    if act == "report":
        report = {"event": "failed", "exit_code": 11, "text": "there is no module 'report'; install it"}
        os.write(config["ready_fd"], json.dumps(report).encode() + b"\n")
        return 11
    if act == "damaged":
        print("raftactors: the log is damaged", file=sys.stderr)
        return 15
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if act == "stubborn" else lambda *_: None)
    if act == "noise":
        print("hello from the application", end="", flush=True)
    if act != "deaf":
        ready = {"event": "ready", "node_id": config["node_id"], "pid": os.getpid(), "incarnation": incarnation}
        os.write(config["ready_fd"], json.dumps(ready).encode() + b"\n")
    if act == "noise":
        print("x" * 1_000_000, flush=True)
        print("raftactors: noise is over", file=sys.stderr, flush=True)
    if act == "crash" or (act == "crash_once" and incarnation == 1):
        print("raftactors: an actor failed", file=sys.stderr)
        return 20
    if act == "retire":
        return 15
    ready_fds, _, _ = select.select([reader, config["parent_fd"]], [], [])
    return 0 if reader in ready_fds else 23


if __name__ == "__main__":
    sys.exit(main())
