"""Packets of chosen TCP ports dropped by the kernel, so that a connection is a black hole (root and nftables)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection
from types import TracebackType
from typing import Self

ANSWER_TIMEOUT_S = 10.0


def missing() -> str:
    """Why packets cannot be dropped here; empty if they can."""
    if os.geteuid() != 0:
        return "dropping packets needs root"
    if shutil.which("nft") is None:
        return "dropping packets needs nft, the command of nftables"
    try:
        with PacketFilter():
            return ""
    except RuntimeError as error:
        return str(error)


class PacketFilter:
    """A table of nftables that carries the number of this process in its name; `with` makes and removes it.

    If this process is killed, the table stays and stops nothing but the ports that it was told of;
    `nft delete table ip raftactors_PID` removes it.
    """

    def __init__(self) -> None:
        self._table = f"raftactors_{os.getpid()}"

    def __enter__(self) -> Self:
        _nft(f"add table ip {self._table}")
        _nft(f"add chain ip {self._table} input {{ type filter hook input priority 0; }}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _nft(f"delete table ip {self._table}")

    def drop(self, ports: Collection[int], closed_ports: Collection[int]) -> None:
        """Drop what comes from or for `ports`, and new connections to `closed_ports`."""
        some, closed = (f"{{ {', '.join(map(str, sorted(each)))} }}" for each in (ports, closed_ports))
        rules = (f"tcp dport {some}", f"tcp sport {some}", f"tcp dport {closed} tcp flags & (syn | ack) == syn")
        _nft(*(f"add rule ip {self._table} input {rule} drop" for rule in rules))

    def go_on(self) -> None:
        """Drop nothing any more."""
        _nft(f"flush chain ip {self._table} input")


def _nft(*lines: str) -> None:
    """Carry out all lines or none. Raises RuntimeError with what nft has against them."""
    done = subprocess.run(
        ["nft", "-f", "-"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=ANSWER_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"nft refuses {lines[0]!r}: {done.stderr.strip()}")
