"""Makes this process a node: reads its configuration, serves until it is told to stop, and ends with a code.

Started as `python -m raftactors.node CONFIG.json`. One line of JSON says that it serves: to the pipe `ready_fd` if the
configuration names one, else on standard output. SIGTERM and SIGINT hand leadership over, drain and exit 0; when the
pipe `parent_fd` closes the node ends itself with its own exit code.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from raftactors.actors.log_writer import LogWriter
from raftactors.config import NodeConfig, hash_seed
from raftactors.errors import ConfigError, ExitCode, RaftActorsError
from raftactors.joining.watch import ConfigurationWatch, check_at_start
from raftactors.node.composition import Node
from raftactors.node.descriptors import within_descriptors
from raftactors.node.output import NodeOutput
from raftactors.node.parent import ParentLink, StopSignals, take_signals

Announce: TypeAlias = Callable[[Mapping[str, object], Callable[[str], None]], None]
"""Says that the node serves: gets a document, and what prints a line to standard output as it was at the start."""


def run(config: NodeConfig, link: ParentLink, output: NodeOutput, announce: Announce) -> ExitCode:
    """Serve until told to stop; returns the exit code.

    Raises what `Node` raises when it cannot start, and NotAMemberError or ConfigDisagreesError when the other members
    say that this node does not belong to them.
    """
    if sys.flags.optimize:
        raise ConfigError("python -O removes assertions that the node relies on; start it without -O")
    faulthandler.enable(output.stream)
    sys.setswitchinterval(config.switch_interval_us / 1_000_000)
    check_at_start(config)
    node = Node(within_descriptors(config))
    # What start-up built lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    drain = False
    # Before anybody is told that the node serves, and may tell it to end.
    with contextlib.closing(StopSignals()) as signals:
        node.start()
        watch = ConfigurationWatch(config, leader_id=lambda: node.leader_id, context=node.context)
        watch.start()
        try:
            ready = {"event": "ready", "node_id": config.node_id, "pid": os.getpid(), "incarnation": node.incarnation}
            announce(ready, output.print_line)
            code = signals.wait(link.parent_fd, output.look_after, watch.fileno())
            if watch.error is not None:
                raise watch.error
            drain = code is ExitCode.OK
        finally:
            watch.close()
            node.stop(drain=drain)
    return code


def serve(config: NodeConfig, *, announce: Announce | None = None) -> ExitCode:
    """Make this process the node: `run` with the hash seed of the cluster, clean signals, and an output of its own.

    `announce` stands in for the report to the supervisor or the line on standard output. Raises as `run`.
    """
    if os.environ.get("PYTHONHASHSEED") != hash_seed(config.cluster_id):
        # The seed is read when the interpreter starts, so the process replaces itself once.
        os.environ["PYTHONHASHSEED"] = hash_seed(config.cluster_id)
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # our own program, our own arguments
    os.umask(0o077)  # What the application keeps is the owner's alone, as all of the data folder.
    link = ParentLink(config)
    take_signals(is_supervised=link.is_supervised)
    output = NodeOutput(log_bytes_max=config.log_bytes_max if link.is_supervised else 0)
    output.look_after()
    writer = LogWriter(output.stream)
    writer.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s node={config.node_id} %(name)s %(message)s"))
    logging.basicConfig(level=config.log_level, handlers=[writer])
    try:
        with contextlib.closing(writer):
            return run(config, link, output, announce or link.report)
    except RaftActorsError as error:
        link.report_failure(str(error), error.exit_code)
        raise
    finally:
        # Where the error or the traceback of anything else is to go, whatever the application has made of it.
        sys.stderr = output.stream


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the node process; prints one clear line and returns a distinct code for each start-up failure."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        print("raftactors: start a node with python -m raftactors.node CONFIG.json", file=sys.stderr)
        return ExitCode.USAGE
    try:
        return serve(_read_config(Path(arguments[0])))
    except RaftActorsError as error:
        print(f"raftactors: {error}", file=sys.stderr, flush=True)
        return error.exit_code


def _read_config(path: Path) -> NodeConfig:
    try:
        return NodeConfig.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the node configuration {path} cannot be read: {error.strerror}") from error
