"""Members as they are typed: `1=HOST`, `1=HOST:PORT` or `1=HOST:PEERPORT,CLIENTPORT,SNAPSHOTPORT`."""

from __future__ import annotations

from collections.abc import Iterable

from raftactors.config import Member
from raftactors.errors import ConfigError

BASE_PORT = 7400
"""Where a member listens for peers if nothing else is said; clients use the next port, snapshots the one after."""

_FORM = "write it as ID=HOST, ID=HOST:PORT or ID=HOST:PEERPORT,CLIENTPORT,SNAPSHOTPORT, IPv6 hosts in brackets"


def parse_member(text: str) -> Member:
    """Read one member. A single port is that for peers; the next two are for clients and for snapshots.

    Raises ConfigError for anything else.
    """
    number, separator, place = text.strip().partition("=")
    if not separator or not _is_number(number) or not 1 <= int(number) < 2**63:
        raise ConfigError(f"member {text!r} has no id; {_FORM}")
    host, ports = _split_place(place)
    if not host or (":" in host and not (host.startswith("[") and host.endswith("]"))) or set(host) & set(" ,=/"):
        raise ConfigError(f"member {text!r} has no host; {_FORM}")
    if not all(_is_number(port) and 1 <= int(port) <= 65_535 for port in ports) or len(ports) not in (1, 3):
        raise ConfigError(f"member {text!r} has ports other than 1 to 65535, or not one or three of them; {_FORM}")
    numbers = [int(port) for port in ports]
    if len(numbers) == 1:
        numbers = [numbers[0], numbers[0] + 1, numbers[0] + 2]
        if numbers[-1] > 65_535:
            raise ConfigError(f"member {text!r} needs three ports from {numbers[0]} on; choose one of 1 to 65533")
    peer, client, snapshot = (f"{host}:{port}" for port in numbers)
    return Member(node_id=int(number), peer_address=peer, client_address=client, snapshot_address=snapshot)


def parse_members(text: str) -> tuple[Member, ...]:
    """Read members with spaces between them."""
    return tuple(parse_member(word) for word in text.split())


def check_members(members: Iterable[Member]) -> None:
    """Raise ConfigError for ids or addresses that are given twice: two members can share neither."""
    owners: dict[str, int] = {}
    ids: set[int] = set()
    for member in members:
        if member.node_id in ids:
            raise ConfigError(f"member {member.node_id} is there twice; give each member an id of its own")
        ids.add(member.node_id)
        for address in (member.peer_address, member.client_address, member.snapshot_address):
            if address and address in owners:
                raise ConfigError(
                    f"members {owners[address]} and {member.node_id} both have {address}; give each its own"
                )
            owners[address] = member.node_id


def _split_place(place: str) -> tuple[str, list[str]]:
    host, colon, ports = place.rpartition(":")
    if not colon or place.endswith("]"):
        return place, [str(BASE_PORT)]
    return host, ports.split(",")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
