"""The bank of examples/sqlite_bank.py: killed before any statement, it goes on where its database is."""

from __future__ import annotations

import importlib
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from raftactors.app.host import ApplicationHost
from raftactors.app.on_disk_host import make_host
from raftactors.codec.batch import encode_batch
from raftactors.codec.replies import ResultStatus, decode_reply
from raftactors.config import Limits
from raftactors.core.types import Entry
from raftactors.errors import ApplicationStateError, ExitCode
from tests.app.replica import INCARNATION, NODE_ID, Replica, commands_frame, open_frame, outcomes

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LIMITS = Limits(sessions_max=3, session_inflight_max=8)
OK = ResultStatus.OK


@pytest.fixture
def sqlite_bank(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(EXAMPLES)
    module = importlib.import_module("sqlite_bank")
    yield module.SqliteBank
    monkeypatch.delitem(sys.modules, "sqlite_bank")


def bank_log() -> list[Entry]:
    """Two sessions that deposit, transfer, fail and send again."""
    rng = random.Random(5)
    batches = [[open_frame(), open_frame()]]
    ann, bob = 1 << 16, 1 << 16 | 1
    following = {ann: 1, bob: 1}
    for _ in range(8):
        frames = []
        for session, owner in ((ann, "ann"), (bob, "bob")):
            first = max(1, following[session] - rng.randrange(3))
            calls: list[tuple[object, ...]] = [
                ("deposit", owner, first + n) if rng.random() < 0.6 else ("transfer", "ann", "bob", 3) for n in range(3)
            ]
            following[session] = first + len(calls)
            frames.append(commands_frame(session, first, *calls, acked=max(0, first - 3)))
        batches.append(frames)
    return [
        Entry(
            1,
            index,
            encode_batch(
                list(enumerate(batch)), origin_node=NODE_ID, origin_incarnation=INCARNATION, timestamp_ms=1_000 + index
            ),
        )
        for index, batch in enumerate(batches, 1)
    ]


def apply_bank(host: ApplicationHost, entries: Sequence[Entry], told: dict[int, Any]) -> None:
    """Apply in batches of three; `told` gets what left the process."""
    for start in range(0, len(entries), 3):
        batch = entries[start : start + 3]
        replies = {entry.index: host.apply(entry, origin_incarnation=INCARNATION) for entry in batch}
        host.commit()
        told |= {index: reply for index, reply in replies.items() if reply}


def test_sqlite_killed_before_every_statement(sqlite_bank: Any, tmp_path: Path) -> None:
    """What a killed process leaves are its files as they are then: they are copied before each statement."""
    entries = bank_log()
    bank = sqlite_bank()
    told: dict[int, Any] = {}
    host = make_host(bank, folder=tmp_path / "app", limits=LIMITS, node_id=NODE_ID)
    copies: list[dict[int, Any]] = []

    def keep(statement: str) -> None:
        shutil.copytree(tmp_path / "app", tmp_path / f"killed-{len(copies)}")
        copies.append(dict(told))

    bank._sql.set_trace_callback(keep)
    apply_bank(host, entries, told)
    keep("the end")
    bank._sql.set_trace_callback(None)
    assert len(copies) > 60
    resumed = set()
    for number, known in enumerate(copies):
        again = make_host(sqlite_bank(), folder=tmp_path / f"killed-{number}", limits=LIMITS, node_id=NODE_ID)
        resumed.add(again.applied_index)
        # Whatever a client was told is in the store: the reply left after the commit.
        assert again.applied_index >= max(known, default=0)
        answers: dict[int, Any] = {}
        apply_bank(again, entries, answers)
        assert all(told[index] == reply for index, reply in answers.items())
        assert again.snapshot() == host.snapshot()
        assert again.digest == host.digest
        again.close()
    assert resumed == {0, 3, 6, 9}
    host.close()


def test_sqlite_answers_again_after_a_restart(sqlite_bank: Any, tmp_path: Path) -> None:
    entries = bank_log()
    first = make_host(sqlite_bank(), folder=tmp_path / "app", limits=LIMITS, node_id=NODE_ID)
    told: dict[int, list[tuple[int, bytes]]] = {}
    apply_bank(first, entries, told)
    before = first.snapshot()
    first.close()
    second = Replica(sqlite_bank(), host=make_host(sqlite_bank(), folder=tmp_path / "app", limits=LIMITS, node_id=1))
    assert second.host.snapshot() == before
    total = second.ask(("total",))
    # The last commands once more: the results are those of the first time, and nothing moves.
    repeated = second.apply(entries[-1]._replace(index=len(entries) + 1))
    results = [outcomes(reply) for reply in repeated]
    assert results == [outcomes(decode_reply(body)) for _, body in told[len(entries)]]
    assert any(status == OK and value for frame in results for status, value in frame)
    assert second.ask(("total",)) == total
    second.host.commit()
    second.host.close()


def test_sqlite_that_fails_stops_the_node(sqlite_bank: Any, tmp_path: Path) -> None:
    """A full disk is this node's own trouble: as an answer it would make the replicas differ."""
    bank = sqlite_bank()
    replica = Replica(bank, host=make_host(bank, folder=tmp_path / "app", limits=Limits(), node_id=1))
    bank._sql.execute("PRAGMA max_page_count = 1")
    with pytest.raises(
        ApplicationStateError, match=r"SqliteBank.deposit\(\) met a failure of its store.*full"
    ) as error:
        for number in range(1000):
            replica.commit(commands_frame(0, 1, ("deposit", f"{number}" * 50, 1)))
    assert error.value.exit_code is ExitCode.APPLICATION_FAILED
    replica.host.close()
    reopened = make_host(sqlite_bank(), folder=tmp_path / "app", limits=Limits(), node_id=1)
    assert reopened.applied_index == 0
    reopened.close()


def test_a_database_that_is_none_stops_the_start(sqlite_bank: Any, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "bank.sqlite3").write_bytes(b"this is not SQLite " * 100)
    with pytest.raises(ApplicationStateError, match="could not open: DatabaseError: file is not a database"):
        make_host(sqlite_bank(), folder=tmp_path / "app", limits=Limits(), node_id=1)


def test_sqlite_sums_beyond_64_bits_are_refused_alike(sqlite_bank: Any, tmp_path: Path) -> None:
    bank = sqlite_bank()
    replica = Replica(bank, host=make_host(bank, folder=tmp_path / "app", limits=Limits(), node_id=1))
    replica.commit(commands_frame(0, 1, ("deposit", "ann", 2**63 - 1)))
    (reply,) = replica.commit(commands_frame(0, 1, ("deposit", "ann", 1)))
    assert outcomes(reply)[0][1][0] == "OverflowError"
    assert replica.ask(("balance", "ann")) == [(OK, 2**63 - 1)]
    replica.host.close()


def test_a_snapshot_is_read_while_commands_go_on(sqlite_bank: Any, tmp_path: Path) -> None:
    bank = sqlite_bank()
    replica = Replica(bank, host=make_host(bank, folder=tmp_path / "app", limits=Limits(), node_id=1))
    for number in range(2_500):
        bank._set(f"owner-{number}", number)
    replica.commit(commands_frame(0, 1, ("deposit", "owner-7", 1)))
    replica.host.commit()
    expected = replica.host.snapshot()
    frozen = replica.host.freeze()
    assert (frozen.index, frozen.term) == (replica.host.applied_index, 1)
    parts = [next(frozen.content), next(frozen.content)]
    replica.commit(commands_frame(0, 1, ("deposit", "owner-2400", 50), ("deposit", "new", 1)))
    replica.host.commit()
    with ThreadPoolExecutor(1) as writer:
        parts += writer.submit(list, frozen.content).result()
    assert b"".join(parts) == expected != replica.host.snapshot()
    assert len(parts) > 4
    replica.host.thaw()
    assert replica.ask(("balance", "owner-2400")) == [(OK, 2_450)]
    other = make_host(sqlite_bank(), folder=tmp_path / "other", limits=Limits(), node_id=2)
    other.restore_from(parts)
    assert other.snapshot() == expected
    other.close()
    replica.host.close()


def test_a_snapshot_that_cannot_be_read_is_given_up_with_a_reason(sqlite_bank: Any, tmp_path: Path) -> None:
    bank = sqlite_bank()
    replica = Replica(bank, host=make_host(bank, folder=tmp_path / "app", limits=Limits(), node_id=1))
    frozen = replica.host.freeze()
    bank._frozen.close()
    with pytest.raises(ApplicationStateError, match="could not read its state: ProgrammingError"):
        list(frozen.content)
    replica.host.thaw()
    bank._path = tmp_path
    with pytest.raises(ApplicationStateError, match="could not set its state aside: OperationalError"):
        replica.host.freeze()
    bank.close()
