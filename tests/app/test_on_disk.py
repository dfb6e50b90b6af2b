"""Applications that keep their own data: killed anywhere, they execute every command once and answer as before."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from raftactors.app import Application, command
from raftactors.app.host import ApplicationHost
from raftactors.app.loading import load_application
from raftactors.app.on_disk_host import OnDiskHost, make_host
from raftactors.codec.batch import encode_batch
from raftactors.config import Limits
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import Entry, EntryType, Snapshot
from raftactors.errors import (
    ApplicationStateError,
    ApplicationUnknownError,
    ConfigError,
    ExitCode,
    InvariantViolation,
)
from tests.app.replica import (
    INCARNATION,
    NODE_ID,
    Replica,
    close_frame,
    commands_frame,
    keep_alive_frame,
    open_frame,
)
from tests.app.shelf import Disk, Killed, Notes, Shelf

LIMITS = Limits(sessions_max=3, session_ttl_ms=400, session_inflight_max=4)
KILLS_AT_RANDOM = 150


def frames_of_a_client(rng: random.Random, sessions: dict[int, int]) -> bytes:
    """Some frame, often one that was there before; `sessions` holds the next sequence of each."""
    if not sessions:
        return open_frame()
    session = rng.choice(list(sessions)[-5:])
    acked = max(0, sessions[session] - 1 - rng.randrange(4))
    choice = rng.random()
    if choice < 0.1:
        return open_frame()
    if choice < 0.15:
        return close_frame(session)
    if choice < 0.2:
        return keep_alive_frame(session, acked)
    if choice < 0.25:
        return commands_frame(0, 1, ("note", "without a session"))
    first = max(1, sessions[session] - rng.randrange(3))
    calls = [(rng.choice(["note", "note", "refuse"]), f"{session}/{first + n}") for n in range(rng.randrange(1, 4))]
    sessions[session] = max(sessions[session], first + len(calls))
    return commands_frame(session, first, *calls, acked=acked)


def written_log(seed: int, length: int, application: Application) -> tuple[Replica, list[list[tuple[int, bytes]]]]:
    """A log with everything in it, applied to an application in memory, and the replies of each of its entries."""
    rng = random.Random(seed)
    replica = Replica(application, limits=LIMITS)
    sessions: dict[int, int] = {}
    replies = []
    for index in range(1, length + 1):
        now_ms = 1_000 + index * 20 + rng.choice([0, 0, 0, 300])
        if rng.random() < 0.1:
            entry = Entry(1 + index // 20, index, b"\x01", EntryType.CONF_CHANGE_V2)
        else:
            frames = [frames_of_a_client(rng, sessions) for _ in range(rng.randrange(1, 4))]
            sessions |= {index << 16 | place: 1 for place, frame in enumerate(frames) if frame == open_frame()}
            payload = encode_batch(
                list(enumerate(frames)), origin_node=NODE_ID, origin_incarnation=INCARNATION, timestamp_ms=now_ms
            )
            entry = Entry(1 + index // 20, index, payload)
        replica.entries.append(entry)
        replies.append(replica.host.apply(entry, origin_incarnation=INCARNATION))
    return replica, replies


def lives(
    disk: Disk,
    folder: Path,
    entries: Sequence[Entry],
    replies: list[list[tuple[int, bytes]]],
    *,
    kills: Iterator[int],
    shelf: type[Shelf] = Shelf,
    batch_seed: int = 0,
) -> tuple[OnDiskHost, int]:
    """Apply the log from its start, again and again until a life survives it; returns its host and the steps made.

    Each life is killed at the step that `kills` names next. What leaves the process must be what `replies` say.
    """
    rng = random.Random(batch_seed)
    step = count()
    kill_at = next(kills, -1)

    def interrupt(point: str) -> None:
        nonlocal kill_at
        if next(step) == kill_at:
            kill_at = next(kills, -1)
            raise Killed(point)

    while True:
        try:
            host = OnDiskHost(shelf(disk, interrupt), folder=folder, limits=LIMITS, node_id=NODE_ID)
            waiting: dict[int, list[tuple[int, bytes]]] = {}
            for entry in entries:
                waiting[entry.index] = host.apply(entry, origin_incarnation=INCARNATION)
                if rng.random() < 0.4 or entry is entries[-1]:
                    host.commit()
                    interrupt("reply")
                    assert all(told in ([], replies[index - 1]) for index, told in waiting.items())
                    waiting.clear()
            host.close()
            return host, next(step)
        except Killed:
            continue


def check_equal(host: ApplicationHost, reference: ApplicationHost) -> None:
    """State, sessions in their order, kept results, time, index and digest."""
    assert host.snapshot() == reference.snapshot()
    assert (host.digest, host.applied_index) == (reference.digest, reference.applied_index)


@pytest.fixture(scope="module")
def log() -> tuple[Replica, list[list[tuple[int, bytes]]]]:
    return written_log(11, 60, Notes())


def test_killed_once_at_every_step(log: tuple[Replica, list[list[tuple[int, bytes]]]], tmp_path: Path) -> None:
    reference, replies = log
    _, steps = lives(Disk(), tmp_path / "app", reference.entries, replies, kills=iter(()))
    assert steps > 150
    for kill_at in range(steps):
        disk = Disk()
        host, _ = lives(disk, tmp_path / "app", reference.entries, replies, kills=iter([kill_at]))
        check_equal(host, reference.host)
        # And what the next life would find is the same.
        check_equal(OnDiskHost(Shelf(disk), folder=tmp_path / "app", limits=LIMITS, node_id=1), reference.host)


@pytest.mark.parametrize("seed", range(10))
def test_killed_again_and_again(seed: int, tmp_path: Path) -> None:
    reference, replies = written_log(seed, 40, Notes())
    rng = random.Random(seed)
    for _ in range(KILLS_AT_RANDOM // 10):
        kills = sorted(rng.sample(range(400), 6))
        host, _ = lives(
            Disk(), tmp_path / "app", reference.entries, replies, kills=iter(kills), batch_seed=rng.randrange(1000)
        )
        check_equal(host, reference.host)


class RowsFirst(Shelf):
    """The mistake that the contract forbids: the applied index is kept in a step of its own."""

    def commit(self, rows: Any) -> None:
        self.keep_rows(rows)
        super().commit(rows)


class DataFirst(Shelf):
    """The same the other way round."""

    def commit(self, rows: Any) -> None:
        self.disk.notes = [list(note) for note in self.memory.notes]
        super().commit(rows)


@pytest.mark.parametrize("careless", [RowsFirst, DataFirst])
def test_two_transactions_instead_of_one_are_noticed(
    careless: type[Shelf], log: tuple[Replica, list[list[tuple[int, bytes]]]], tmp_path: Path
) -> None:
    reference, replies = log
    noticed = 0
    for kill_at in range(180):
        try:
            host, _ = lives(Disk(), tmp_path / "app", reference.entries, replies, kills=iter([kill_at]), shelf=careless)
            check_equal(host, reference.host)
        except AssertionError:
            noticed += 1
    assert noticed > 10


# --- the host ----------------------------------------------------------------------------------------------------


def shelf_host(disk: Disk, tmp_path: Path) -> OnDiskHost:
    return OnDiskHost(Shelf(disk), folder=tmp_path / "app", limits=LIMITS, node_id=NODE_ID)


def test_a_batch_costs_one_transaction_and_only_what_it_changes(tmp_path: Path) -> None:
    points: list[str] = []
    written: list[dict[bytes, bytes | None]] = []

    class Counting(Shelf):
        def keep_rows(self, rows: Any) -> None:
            written.append(dict(rows))
            super().keep_rows(rows)

    limits = Limits(sessions_max=100)
    host = OnDiskHost(Counting(Disk(), points.append), folder=tmp_path / "app", limits=limits, node_id=NODE_ID)
    replica = Replica(host.application, host=host)
    replica.commit(*[open_frame()] * 50)
    for session in range(50):
        replica.commit(commands_frame(1 << 16 | session, 1, ("note", "x" * 1000)))
    host.commit()
    host.commit()
    assert (points.count("begin"), points.count("commit")) == (1, 1)
    assert len(written[0]) == 1 + 50 + 50
    replica.commit(commands_frame(1 << 16 | 7, 2, ("note", "more"), acked=1))
    host.commit()
    # The progress, the session, its new result, and the one that was acknowledged.
    assert len(written[1]) == 4
    assert list(written[1].values()).count(None) == 1
    assert sum(len(value) for value in written[1].values() if value) < 100


def test_replaying_passes_over_what_the_store_holds(tmp_path: Path) -> None:
    disk = Disk()
    writer = Replica(Shelf(disk), host=shelf_host(disk, tmp_path))
    writer.commit(commands_frame(0, 1, ("note", "once")))
    writer.host.commit()
    reader = shelf_host(disk, tmp_path)
    # No snapshot before the core has seen the membership at the applied index.
    assert (reader.applied_index, reader.is_replaying) == (1, True)
    assert reader.apply(writer.entries[0], origin_incarnation=INCARNATION) == []
    assert not reader.is_replaying
    assert disk.notes == [["once", 1, 1, 1_000]]
    with pytest.raises(InvariantViolation, match="holds entry 1/1, and 2/1 was committed"):
        reader.apply(writer.entries[0]._replace(term=2), origin_incarnation=INCARNATION)
    with pytest.raises(InvariantViolation, match="cannot follow"):
        reader.apply(Entry(1, 3), origin_incarnation=INCARNATION)


def test_a_snapshot_replaces_store_and_sessions_in_one_transaction(tmp_path: Path) -> None:
    reference, _ = written_log(3, 50, Notes())
    early, _ = written_log(4, 10, Notes())
    for kill_point in ("begin", "restore", "commit", "committed", ""):
        disk = Disk()
        armed: set[str] = set()

        def interrupt(point: str, armed: set[str] = armed) -> None:
            if point in armed:
                raise Killed(point)

        host = OnDiskHost(Shelf(disk, interrupt), folder=tmp_path / "app", limits=LIMITS, node_id=NODE_ID)
        for entry in early.entries:
            host.apply(entry, origin_incarnation=INCARNATION)
        host.commit()
        armed.add(kill_point)
        try:
            host.restore(reference.host.snapshot())
        except Killed:
            assert kill_point
        survivor = shelf_host(disk, tmp_path)
        done = kill_point in {"committed", ""}
        check_equal(survivor, reference.host if done else early.host)


def test_a_snapshot_may_end_before_what_the_store_holds(tmp_path: Path) -> None:
    """What follows the snapshot is executed again then, on the state that the snapshot brought."""
    reference, _ = written_log(3, 50, Notes())
    middle = Replica(Notes(), limits=LIMITS)
    for entry in reference.entries[:20]:
        middle.host.apply(entry, origin_incarnation=INCARNATION)
    disk = Disk()
    first = shelf_host(disk, tmp_path)
    for entry in reference.entries[:40]:
        first.apply(entry, origin_incarnation=INCARNATION)
    first.commit()
    host = shelf_host(disk, tmp_path)
    assert (host.applied_index, host.is_replaying) == (40, True)
    host.restore_from([middle.host.snapshot()])
    assert (host.applied_index, host.is_replaying) == (20, False)
    for entry in reference.entries[20:]:
        host.apply(entry, origin_incarnation=INCARNATION)
    host.commit()
    check_equal(host, reference.host)
    check_equal(shelf_host(disk, tmp_path), reference.host)


def test_the_store_must_belong_to_the_log(tmp_path: Path) -> None:
    disk = Disk()
    writer = Replica(Shelf(disk), host=shelf_host(disk, tmp_path))
    for _ in range(3):
        writer.commit(commands_frame(0, 1, ("note", "x")))
    writer.host.commit()
    host = shelf_host(disk, tmp_path)
    log = MemoryStorage()
    with pytest.raises(ApplicationStateError, match="holds entries up to index 3, but the log ends at 0") as error:
        host.check_log(log.last_index(), log.term)
    assert error.value.exit_code is ExitCode.APPLICATION_FAILED
    log.append([Entry(1, 1), Entry(2, 2), Entry(2, 3)])
    with pytest.raises(ApplicationStateError, match="holds entry 1/3, but the log has 2/3"):
        host.check_log(log.last_index(), log.term)
    log.append(writer.entries)
    host.check_log(log.last_index(), log.term)
    log.apply_snapshot(Snapshot(index=9, term=1))
    host.check_log(log.last_index(), log.term)
    empty = MemoryStorage()
    shelf_host(Disk(), tmp_path).check_log(empty.last_index(), empty.term)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({b"s": b""}, "KeyError"),
        ({b"p": b"short"}, "unpack"),
        ({b"p": b"\x02\x00" + bytes(28)}, "format 2"),
        ({b"p": b"\x01\x00" + bytes(28), b"x": b""}, "key b'x'"),
        ({b"p": b"\x01\x00" + bytes(28), b"r" + bytes(16): b"\x00"}, "belong to no session"),
        (
            {b"p": b"\x01\x00" + bytes(28), b"s" + bytes(8): bytes(8) + (9).to_bytes(8, "little") + bytes(16)},
            "KeyError",
        ),
    ],
)
def test_rows_that_were_not_committed_are_refused(rows: dict[bytes, bytes], says: str, tmp_path: Path) -> None:
    with pytest.raises(ApplicationStateError, match="returned other rows than were committed") as error:
        shelf_host(Disk(rows=rows), tmp_path)
    assert says in str(error.value)


def test_a_store_that_cannot_commit_stops_the_node(tmp_path: Path) -> None:
    def fail(point: str) -> None:
        if point == "commit":
            raise OSError(28, "No space left on device")

    disk = Disk()
    host = OnDiskHost(Shelf(disk, fail), folder=tmp_path / "app", limits=LIMITS, node_id=NODE_ID)
    Replica(host.application, host=host).commit(commands_frame(0, 1, ("note", "x")))
    with pytest.raises(ApplicationStateError, match=r"Shelf in .* could not commit a batch: OSError.*No space left"):
        host.commit()
    assert disk == Disk()


def test_the_folder_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    shelf_host(Disk(), tmp_path)
    assert (tmp_path / "app").stat().st_mode & 0o777 == 0o700
    make_host(Notes(), folder=tmp_path / "none", limits=LIMITS, node_id=1)
    assert not (tmp_path / "none").exists()
    with pytest.raises(ApplicationStateError, match="cannot be made"):
        OnDiskHost(Shelf(Disk()), folder=tmp_path / "a" / "b", limits=LIMITS, node_id=1)


def test_a_command_may_not_hide_the_contract() -> None:
    class Hiding(Shelf):
        @command
        def begin(self) -> None: ...

    with pytest.raises(ConfigError, match=r"Hiding\.begin cannot be a command"):
        ApplicationHost(Hiding(Disk()), limits=LIMITS, node_id=1)


def test_an_application_without_the_contract_is_no_application(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(
        "from raftactors import OnDiskApplication, command\n"
        "class Half(OnDiskApplication):\n"
        "    @command\n"
        "    def do(self) -> None: ...\n"
        "    def open(self, folder): ...\n"
    )
    with pytest.raises(ApplicationUnknownError, match="does not define begin, close, commit, restore, snapshot"):
        load_application(f"{tmp_path / 'half.py'}:Half")


def test_an_ordinary_application_may_open_and_close() -> None:
    class Shop(Application):
        def __init__(self) -> None:
            self.is_open = False

        @command
        def open(self) -> None:
            self.is_open = True

    replica = Replica(Shop())
    replica.commit(commands_frame(0, 1, ("open",)))
    replica.host.commit()
    replica.host.close()
