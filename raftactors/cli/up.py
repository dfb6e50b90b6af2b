"""`raftactors up`: start a cluster here, or in the background, and show what it does."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from raftactors.cli.options import DEFAULT_DATA_DIR, AsJson, DataDir
from raftactors.cli.output import brief_line, print_json, remarks, status_lines, status_title
from raftactors.cli.terminal import is_terminal, make_console, output_width, visible
from raftactors.cluster.local import KEY_VALUE, LocalCluster
from raftactors.cluster.manifest import load_manifest
from raftactors.cluster.node_logs import SUPERVISOR_LOG
from raftactors.cluster.private_files import make_folders, open_log
from raftactors.cluster.supervisor import NodeState
from raftactors.cluster.working_folder import search_here
from raftactors.config import Limits, NodeConfig, RaftTiming
from raftactors.errors import ConfigError, ExitCode, RaftActorsError

DEFAULT_NODES = 3
INTERVAL_MS_MAX = 86_400_000
_LIVE_INTERVAL_MS = 1_000
_PLAIN_INTERVAL_MS = 10_000
_REPORT_BYTES_MAX = 64 * 1024
_GIVEN_BY_CLUSTER = frozenset(
    {"cluster_id", "node_id", "data_dir", "members", "application", "import_paths", "parent_fd", "timing", "limits"}
    | {"ready_fd", "listen_peer_address", "listen_client_address"}
)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the command line says about the cluster."""

    application: str | None
    nodes: int | None
    data_dir: Path
    base_port: int
    settings: tuple[str, ...]

    def words(self) -> list[str]:
        """The command line again."""
        words = ["up", "--data-dir", str(self.data_dir), "--base-port", str(self.base_port)]
        words += [] if self.application is None else [self.application]
        words += [] if self.nodes is None else ["--nodes", str(self.nodes)]
        return words + [word for setting in self.settings for word in ("--set", setting)]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("up")(up)


def up(
    *,
    application: Annotated[
        str | None,
        typer.Argument(metavar="MODULE:CLASS", help="The application, or FILE.py:CLASS. Default: key-value."),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option("--nodes", metavar="N", help="Number of node processes. Default: 3.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    base_port: Annotated[
        int,
        typer.Option("--base-port", metavar="PORT", help="First of three ports a node; 0: free ones of the system."),
    ] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Timing, limit or node option, such as tick_ms=20."),
    ] = None,
    interval_ms: Annotated[
        int,
        typer.Option(
            "--interval-ms", metavar="MS", min=0, max=INTERVAL_MS_MAX, help="Between two displays; 0: default."
        ),
    ] = 0,
    detach: Annotated[bool, typer.Option("--detach", help="Return when the cluster serves; it goes on.")] = False,
    report_fd: Annotated[int, typer.Option("--report-fd", hidden=True)] = -1,
    as_json: AsJson = False,
) -> None:
    """Start a cluster and watch it until Ctrl-C; a folder that holds one is continued."""
    wish = _Wish(application, nodes, data_dir, base_port, tuple(settings or ()))
    cluster = _configure(wish)
    if detach:
        _start_in_background(wish, as_json)
    elif report_fd >= 0:
        _serve_in_background(cluster, report_fd)
    else:
        _serve(cluster, interval_ms, as_json)


def _configure(wish: _Wish) -> LocalCluster:
    """What the command line leaves open is taken from the folder, if a cluster lives there."""
    manifest = load_manifest(wish.data_dir) if wish.data_dir.is_dir() else None
    application, nodes = wish.application, wish.nodes
    search_in = search_here()
    if manifest is not None and manifest.has_served:
        if application is None:
            application, search_in = manifest.application, manifest.import_paths
        nodes = len(manifest.members) if nodes is None else nodes
    timing, limits, node_options = _read_settings(wish.settings)
    return LocalCluster(
        DEFAULT_NODES if nodes is None else nodes,
        application or KEY_VALUE,
        data_dir=wish.data_dir,
        timing=timing,
        limits=limits,
        base_port=wish.base_port,
        node_options=node_options,
        search_in=search_in,
        majority_suffices=True,
    )


def _read_settings(settings: Sequence[str]) -> tuple[RaftTiming, Limits, dict[str, Any]]:
    timing_names = {field.name for field in dataclasses.fields(RaftTiming)}
    limit_names = {field.name for field in dataclasses.fields(Limits)}
    node_names = {field.name for field in dataclasses.fields(NodeConfig)} - _GIVEN_BY_CLUSTER
    timing: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    node_options: dict[str, Any] = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set {setting} has no value; write it as NAME=VALUE")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        for names, values in ((timing_names, timing), (limit_names, limits), (node_names, node_options)):
            if name in names:
                values[name] = value
                break
        else:
            known = ", ".join(sorted(timing_names | limit_names | node_names))
            raise ConfigError(f"there is no setting {name!r}; choose from {known}")
    return RaftTiming(**timing), Limits(**limits), node_options


def _serve(cluster: LocalCluster, interval_ms: int, as_json: bool) -> None:
    _interrupt_at_stop_signals()
    console = make_console()
    try:
        with cluster:
            if as_json or not is_terminal(sys.stdout) or console.is_dumb_terminal:
                _report_plainly(cluster, interval_ms or _PLAIN_INTERVAL_MS, as_json)
            else:
                _report_live(cluster, interval_ms or _LIVE_INTERVAL_MS, console)
    except KeyboardInterrupt:
        if not cluster.stopped.is_set():
            raise
    if as_json:
        print_json({"event": "stopped"})
    else:
        print(visible(f"stopped; the data stays in {cluster.path}"), flush=True)


def _report_live(cluster: LocalCluster, interval_ms: int, console: Console) -> None:
    with Live(_view(cluster), console=console, auto_refresh=False) as live:
        while not cluster.stopped.wait(interval_ms / 1000):
            live.update(_view(cluster), refresh=True)


def _view(cluster: LocalCluster) -> Text:
    status = cluster.status()
    return Text("\n").join([Text(status_title(status)), *status_lines(status, output_width())])


def _report_plainly(cluster: LocalCluster, interval_ms: int, as_json: bool) -> None:
    cluster.wait_leader()
    status = cluster.status()
    if as_json:
        print_json({"event": "serving", **status})
    else:
        lines = status_lines(status, output_width())
        print("\n".join([status_title(status), *(line.plain for line in lines)]), flush=True)
    while not cluster.stopped.wait(interval_ms / 1000):
        status = cluster.status()
        if as_json:
            print_json({"event": "status", **status})
        else:
            print(brief_line(status), flush=True)


# --- in the background ----------------------------------------------------------------------------------------------


def _start_in_background(wish: _Wish, as_json: bool) -> None:
    """Start this command again in a session of its own, and wait for its report."""
    make_folders(wish.data_dir)
    reader, writer = os.pipe()
    log_path = wish.data_dir / SUPERVISOR_LOG
    with open_log(log_path) as log:
        # It outlives this command on purpose, so nobody here waits for it.
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "raftactors", *wish.words(), "--report-fd", str(writer)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writer,),
            start_new_session=True,
        )
    os.close(writer)
    with os.fdopen(reader, "rb") as report:
        line = report.readline(_REPORT_BYTES_MAX)
    if not line:
        child.wait()
        raise RaftActorsError(f"the supervisor ended before the cluster served; see {log_path}")
    document = json.loads(line)
    if "error" in document:
        child.wait()
        error = RaftActorsError(document["error"]["text"])
        error.exit_code = ExitCode(document["error"]["exit_code"])
        raise error
    # The interpreter would warn that the child still runs, which is the purpose.
    child.returncode = 0
    if as_json:
        print_json(document)
        return
    total, serving = document["nodes"], document["serving"]
    count = total if serving == total else f"{serving} of {total}"
    print(
        visible(f"{count} nodes serve {document['application']}; supervisor {document['pid']}, data {wish.data_dir}"),
        flush=True,
    )
    for remark in document["remarks"]:
        print(remark, file=sys.stderr)


def _serve_in_background(cluster: LocalCluster, report_fd: int) -> None:
    _interrupt_at_stop_signals()
    with os.fdopen(report_fd, "w") as report:
        try:
            cluster.start()
            cluster.wait_leader()
        except RaftActorsError as error:
            cluster.stop()
            document = {"kind": type(error).__name__, "text": str(error), "exit_code": int(error.exit_code)}
            report.write(json.dumps({"error": document}) + "\n")
            raise
        status = cluster.status()
        nodes = status["nodes"]
        serving = {
            "event": "serving", "pid": os.getpid(), "nodes": len(nodes), "remarks": remarks(status),
            "serving": sum(node["state"] == NodeState.RUNNING for node in nodes),
        }  # fmt: skip
        report.write(
            json.dumps({**serving, "application": status["application"], "data_dir": status["data_dir"]}) + "\n"
        )
    try:
        cluster.stopped.wait()
    except KeyboardInterrupt:
        pass
    finally:
        cluster.stop()


def _interrupt_at_stop_signals() -> None:
    """SIGTERM and SIGHUP stop a cluster like Ctrl-C, also where this process has inherited them blocked.

    SIGHUP and SIGINT stay ignored if they are: `nohup`, and `&` in a script, ask for that. SIGTERM always works.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGINT})
