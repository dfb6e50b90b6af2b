"""A running node finds rot in a finished segment, says so, and gets rid of it by snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raftactors.cluster.local import LocalCluster
from raftactors.config import Limits, RaftTiming

TIMEOUT_S = 30.0
LIMITS = Limits(segment_bytes=16 * 1024, scrub_interval_ms=20, trailing_entries=1)


def test_damage_shows_in_the_status_until_snapshots_have_let_it_go(tmp_path: Path) -> None:
    with (
        LocalCluster(1, timing=RaftTiming(tick_ms=20), limits=LIMITS, data_dir=tmp_path) as cluster,
        cluster.client() as client,
    ):

        def scrubbed(holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
            deadline = time.monotonic() + TIMEOUT_S
            while not holds(found := client.admin("status", node=1)["scrub"]):
                assert time.monotonic() < deadline, found
            return dict(found)

        for number in range(60):
            client.kv.put(f"key-{number}", bytes(1_000))
        assert scrubbed(lambda scrub: scrub["bytes"] > 30_000)["damage"] == []
        segment = min((tmp_path / "node-1" / "data" / "wal").glob("*.wal"))
        with segment.open("r+b") as file:
            file.seek(5_000)
            file.write(b"rot")
        (text,) = scrubbed(lambda scrub: bool(scrub["damage"]))["damage"]
        assert segment.name in text
        assert "offset" in text
        for number in range(2):
            client.admin("snapshot", node=1)
            client.kv.put(f"more-{number}", bytes(1_000))
        scrubbed(lambda scrub: scrub["damage"] == [])
        assert not segment.exists()
        cluster.kill(1)
        cluster.restart(1)
        assert client.kv.get("key-59") == bytes(1_000)
