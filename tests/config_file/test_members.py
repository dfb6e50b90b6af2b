"""Members as they are typed."""

from __future__ import annotations

import pytest

from raftactors.config_file.members import check_members, parse_member, parse_members
from raftactors.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1=10.0.0.1", (1, "10.0.0.1:7400", "10.0.0.1:7401", "10.0.0.1:7402")),
        ("12=db.example:500", (12, "db.example:500", "db.example:501", "db.example:502")),
        ("3=h:1,20,65535", (3, "h:1", "h:20", "h:65535")),
        ("4=[::1]", (4, "[::1]:7400", "[::1]:7401", "[::1]:7402")),
        ("4=[fe80::1]:9", (4, "[fe80::1]:9", "[fe80::1]:10", "[fe80::1]:11")),
    ],
)
def test_forms(text: str, expected: tuple[int, str, str, str]) -> None:
    member = parse_member(text)
    assert (member.node_id, member.peer_address, member.client_address, member.snapshot_address) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no id"),
        ("10.0.0.1", "has no id"),
        ("0=h", "has no id"),
        ("-1=h", "has no id"),
        ("²=h", "has no id"),
        ("1=", "has no host"),
        ("1=:7400", "has no host"),
        ("1=::1", "has no host"),
        ("1=a b", "has no host"),
        ("1=h:0", "ports other than"),
        ("1=h:65536", "ports other than"),
        ("1=h:1,2", "not one or three"),
        ("1=h:x", "ports other than"),
        ("1=h:65534", "needs three ports"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_member(text)


def test_nothing_is_shared() -> None:
    with pytest.raises(ConfigError, match="member 1 is there twice"):
        check_members(parse_members("1=a 1=b"))
    with pytest.raises(ConfigError, match="members 1 and 2 both have a:7400"):
        check_members(parse_members("1=a 2=a"))
    with pytest.raises(ConfigError, match="members 1 and 1 both have a:7401"):
        check_members(parse_members("1=a:7400,7401,7401"))
