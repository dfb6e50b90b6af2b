"""`raftactors node init` and `raftactors node run`: nodes on hosts of their own, without a supervisor of ours."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from raftactors.cli.options import AsJson
from raftactors.cli.output import print_json
from raftactors.cli.overview import CommandGroup
from raftactors.cli.systemd import notify
from raftactors.cluster.local import KEY_VALUE, NODES_MAX
from raftactors.cluster.process import NODE_MARK
from raftactors.config import Member, NodeConfig
from raftactors.config_file import load, parse_member, render_effective, render_new
from raftactors.config_file.members import check_members
from raftactors.errors import ConfigError
from raftactors.node import serve


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(cls=CommandGroup, help="Run single nodes by hand, each on its host.")
    for command in (init, run):
        group.command()(command)
    app.add_typer(group, name="node")


def init(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write the files.")] = Path(),
    members: Annotated[
        list[str],
        typer.Option(
            "--member",
            metavar="ID=HOST[:PORT]",
            help="A member, once for each. PORT is for peers, the next one for clients, the one after for snapshots; "
            "or all three, with commas. Default: 7400.",
        ),
    ],
    application: Annotated[
        str, typer.Option("--app", metavar="MODULE:CLASS", help="What the nodes replicate; FILE.py:CLASS works too.")
    ] = KEY_VALUE,
    node_id: Annotated[
        int | None, typer.Option("--node-id", help="Write the file of this member only. Default: those of all.")
    ] = None,
    cluster_id: Annotated[
        int | None, typer.Option("--cluster-id", help="The id of the cluster. Default: a new one.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where each node keeps its data, in `node-ID`. Default: beside.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the configuration of every member of a new cluster, `node-ID.toml`, to be copied to its host."""
    parsed = tuple(parse_member(text) for text in members)
    if len(parsed) > NODES_MAX:
        raise ConfigError(f"{len(parsed)} members; a cluster has 1 to {NODES_MAX}")
    check_members(parsed)
    chosen = [member for member in parsed if node_id in (None, member.node_id)]
    if not chosen:
        raise ConfigError(f"node {node_id} is not among the members; add it with --member {node_id}=HOST")
    given = {"cluster_id": secrets.randbelow(2**63 - 1) + 1 if cluster_id is None else cluster_id}
    texts = {
        folder / f"node-{member.node_id}.toml": _new_file(member, parsed, application, data_dir, given)
        for member in chosen
    }
    _write(texts, force=force)
    if as_json:
        print_json({**given, "files": [str(path) for path in texts]})
        return
    print(f"cluster {given['cluster_id']}: {len(parsed)} members")
    for path in texts:
        print(f"{path}: start it on its host with `raftactors node run {path.name}`")


def run(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration, as `raftactors node init` writes.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the file; repeatable.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where the node keeps its data.")] = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST", help="Listen here, on the member's ports; 0.0.0.0: everywhere.")
    ] = "",
    log_level: Annotated[str | None, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print what the node would run with, and whence, and end.")
    ] = False,
    ready_line: Annotated[
        bool, typer.Option("--ready-line/--no-ready-line", help="Say on standard output when the node serves.")
    ] = True,
    as_json: AsJson = False,
) -> int:
    """Run one node in the foreground until SIGTERM or Ctrl-C, which let it hand over and drain.

    Environment variables RAFTACTORS_NODE_KEY count more than the file, flags more than both. The log goes to standard
    error.
    """
    flags = [_split_setting(text) for text in settings or ()]
    if data_dir is not None:
        flags.append(("data_dir", str(data_dir), f"--data-dir {data_dir}"))
    if log_level is not None:
        flags.append(("log_level", log_level, f"--log-level {log_level}"))
    # That one says which node a process is, and tells no node what to be.
    environment = {name: value for name, value in os.environ.items() if name != NODE_MARK}
    effective = load(file, environment=environment, flags=flags, listen_host=listen)
    if print_config:
        if as_json:
            print_json(json.loads(effective.config.to_json()))
        else:
            print(render_effective(effective), end="")
        return 0
    os.environ[NODE_MARK] = str(effective.config.node_id)

    def announce(ready: Mapping[str, object], print_line: Callable[[str], None]) -> None:
        if ready_line:
            print_line(json.dumps(ready))
        notify("READY=1")

    return serve(effective.config, announce=announce)


def _new_file(
    member: Member, members: tuple[Member, ...], application: str, data_dir: Path | None, given: Mapping[str, Any]
) -> str:
    place = data_dir or Path()
    values = {
        **given,
        "node_id": member.node_id,
        "data_dir": place / f"node-{member.node_id}",
        "witness_path": str(place / "witness" / f"node-{member.node_id}"),
        "application": application,
        "import_paths": ["."],
    }
    # Checks every value as `node run` will.
    NodeConfig(**values, members=members)
    return render_new(values, members)


def _write(texts: Mapping[Path, str], *, force: bool) -> None:
    """Write all files or, if one exists and must not be replaced, none. Only their owner may read them."""
    taken = [str(path) for path in texts if path.exists() or path.is_symlink()]
    if taken and not force:
        raise ConfigError(f"{', '.join(taken)} exists; choose another folder, or --force to replace it")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
        temporary.replace(path)


def _split_setting(text: str) -> tuple[str, str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--set {text}: write it as KEY=VALUE")
    return name.strip(), value, f"--set {text}"
