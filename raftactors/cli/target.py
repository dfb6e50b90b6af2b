"""Which cluster a client command means: that of a data folder here, or the one whose nodes listen at `--address`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from raftactors.client import Client
from raftactors.cluster.manifest import Manifest, load_running
from raftactors.config import split_address
from raftactors.errors import ClusterUnreachableError, ConfigError

Address = Annotated[
    list[str] | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        envvar="RAFTACTORS_ADDRESS",
        help="Where a node listens for clients, instead of --data-dir; repeatable. It tells of the others.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The cluster that is meant. `manifest` is that of its data folder, None for one that is named by addresses."""

    addresses: tuple[str, ...]
    manifest: Manifest | None = None

    def client(self, timeout_ms: int) -> Client:
        """A client of it."""
        cluster_id = None if self.manifest is None else self.manifest.cluster_id
        return Client(self.addresses, cluster_id=cluster_id, timeout_ms=timeout_ms)


def find_target(context: typer.Context, data_dir: Path, addresses: Sequence[str] | None) -> Target:
    """What `--address` and `--data-dir` name, or their environment variables.

    A flag counts more than an environment variable; among equals an address counts more than a folder, but to give both
    flags is refused: a command must not reach another cluster than the one that its user thinks of. Raises ConfigError,
    or ClusterUnreachableError if no cluster runs in the folder.
    """
    by_flag = {name: _is_flag(context, name) for name in ("addresses", "data_dir")}
    if all(by_flag.values()):
        raise ConfigError("--address and --data-dir may name two clusters; give one of them")
    if addresses and (by_flag["addresses"] or not by_flag["data_dir"]):
        named = [part.strip() for text in addresses for part in text.split(",") if part.strip()]
        for address in named:
            split_address("--address", address)
        if not named:
            raise ConfigError("--address is empty; write it as HOST:PORT")
        return Target(addresses=tuple(dict.fromkeys(named)))
    try:
        manifest = load_running(data_dir)
    except ClusterUnreachableError as error:
        raise ClusterUnreachableError(f"{error}; a cluster elsewhere is named by --address HOST:PORT") from error
    return Target(addresses=tuple(manifest.client_addresses.values()), manifest=manifest)


def _is_flag(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"
