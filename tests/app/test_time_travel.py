"""A log run again: what each command did, what it changed, and that looking changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raftactors.app import Application, Context, KeyValue, command
from raftactors.app.state_changes import CHANGES_MAX, MISSING, Change, changes_between
from raftactors.app.time_travel import TimeTravel
from raftactors.codec.replies import ResultStatus
from raftactors.config import Limits
from raftactors.core.types import Entry, EntryType
from raftactors.errors import ApplicationError, ApplicationStateError, ArgumentsError, UnknownMethodError
from tests.app.bank import Bank
from tests.app.replica import Replica, close_frame, commands_frame, keep_alive_frame, open_frame
from tests.app.shelf import Notes
from tests.app.test_on_disk import LIMITS, written_log


def travel(application: type[Application], folder: Path, limits: Limits | None = None) -> TimeTravel:
    return TimeTravel(application, limits=limits or Limits(), folder=folder / "app")


@pytest.fixture
def bank_log() -> list[Entry]:
    replica = Replica(Bank())
    session = replica.open(now_ms=1_500)
    replica.commit(
        commands_frame(session, 1, ("deposit", "ann", 5), ("withdraw", "bob", 1), ("deposit", "ann", 2)),
        keep_alive_frame(session),
        now_ms=2_000,
    )
    replica.apply(Entry(1, 3))
    replica.apply(Entry(1, 4, b"\xff", EntryType.CONF_CHANGE_V2))
    replica.commit(commands_frame(session, 3, ("deposit", "ann", 2), ("missing",)), close_frame(session))
    replica.commit(commands_frame(session, 5, ("deposit", "ann", 2)), commands_frame(0, 1, ("deposit", "cy", 1)))
    return replica.entries


def test_commands_results_and_changes(bank_log: list[Entry], tmp_path: Path) -> None:
    going = travel(Bank, tmp_path)
    steps = [going.step(entry) for entry in bank_log]
    assert [(step.index, step.kind) for step in steps] == [
        (1, "commands"), (2, "commands"), (3, "empty"), (4, "membership"), (5, "commands"), (6, "commands"),
    ]  # fmt: skip
    session = 1 << 16
    assert steps[0].notes == (f"open session {session}",)
    assert steps[1].notes == (f"keep session alive {session}",)
    assert steps[1].timestamp_ms == 2_000
    first, second, third = steps[1].commands
    assert (first.session, first.sequence, first.method, first.args) == (session, 1, "deposit", ["ann", 5])
    assert (first.executed, first.status, first.result) == (True, ResultStatus.OK, 5)
    assert first.changes == (Change("balances.ann", MISSING, 5),)
    # What a failed command left behind is a change too.
    assert (second.status, second.result) == (ResultStatus.APPLICATION_ERROR, ["ValueError", "bob has 0"])
    assert second.changes == (Change("journal[0]", MISSING, "withdraw bob"),)
    assert third.changes == (Change("balances.ann", 5, 7),)
    repeated, unknown = steps[4].commands
    assert (repeated.executed, repeated.status, repeated.result, repeated.changes) == (False, ResultStatus.OK, 7, ())
    assert (unknown.executed, unknown.status, unknown.changes) == (True, ResultStatus.UNKNOWN_METHOD, ())
    assert steps[4].notes == (f"close session {session}",)
    gone, free = steps[5].commands
    assert (gone.executed, gone.status) == (False, ResultStatus.SESSION_EXPIRED)
    assert (free.session, free.sequence, free.changes) == (0, 0, (Change("balances.cy", MISSING, 1),))
    assert going.state() == {"balances": {"ann": 7, "cy": 1}, "journal": ["withdraw bob"]}


@pytest.mark.parametrize("seed", range(5))
def test_looking_changes_nothing(seed: int, tmp_path: Path) -> None:
    """Whether entries are looked at, skipped or come in a snapshot, the replica is that of the node."""
    reference, _ = written_log(seed, 40, Notes())
    going = travel(Notes, tmp_path, LIMITS)
    half = Replica(Notes(), limits=LIMITS)
    for entry in reference.entries:
        if entry.index % 3:
            going.step(entry)
        else:
            going.skip(entry)
        if entry.index <= 20:
            half.host.apply(entry, origin_incarnation=0)
    assert (going.applied_index, going.digest) == (40, reference.host.digest)
    assert going.state() == reference.host.application.snapshot()
    jumped = travel(Notes, tmp_path, LIMITS)
    jumped.restore([half.host.snapshot()])
    assert jumped.applied_index == 20
    steps = [jumped.step(entry) for entry in reference.entries[20:]]
    assert (jumped.state(), jumped.digest) == (going.state(), going.digest)
    assert any(command.changes for step in steps for command in step.commands)


def test_changes_after_a_snapshot_or_skipped_entries_begin_there(tmp_path: Path) -> None:
    replica = Replica(KeyValue())
    for number in range(4):
        replica.commit(commands_frame(0, 1, ("put", f"k{number}", "v")))
    going = travel(KeyValue, tmp_path)
    going.step(replica.entries[0])
    going.skip(replica.entries[1])
    (run,) = going.step(replica.entries[2]).commands
    assert run.changes == (Change("pairs.k2", MISSING, "v"), Change("version", 2, 3))
    going.restore([replica.host.snapshot()])
    replica.commit(commands_frame(0, 1, ("delete", "k0")))
    (run,) = going.step(replica.entries[4]).commands
    assert run.changes == (Change("pairs.k0", "v", MISSING), Change("version", 4, 5))


def test_queries_at_the_end(bank_log: list[Entry], tmp_path: Path) -> None:
    going = travel(Bank, tmp_path)
    for entry in bank_log[:2]:
        going.skip(entry)
    assert going.query("balance", ["ann"]) == 7
    assert going.query("clock", []) == [2, 2_000]
    with pytest.raises(UnknownMethodError, match="has no query 'nothing'"):
        going.query("nothing", [])
    with pytest.raises(ArgumentsError, match="who"):
        going.query("balance", [5])


def test_a_query_that_raises(tmp_path: Path) -> None:
    with pytest.raises(ApplicationError, match="limit is 0"):
        travel(KeyValue, tmp_path).query("scan", ["", 0])


def test_the_snapshot_of_another_application(tmp_path: Path) -> None:
    with pytest.raises(ApplicationStateError):
        travel(KeyValue, tmp_path).restore([Replica(Bank()).host.snapshot()])

    class Strict(Application):
        @command
        def do(self) -> None: ...

        def restore(self, state: Any) -> None:
            raise KeyError(sorted(state))

    with pytest.raises(ApplicationStateError, match="Strict cannot be restored from the snapshot: KeyError"):
        travel(Strict, tmp_path).restore([Replica(Bank()).host.snapshot()])


def test_a_state_that_cannot_be_shown(tmp_path: Path) -> None:
    class Odd(Application):
        @command
        def put(self, ctx: Context) -> None: ...

        def readable_state(self) -> object:
            return {1, 2}

    replica = Replica(Odd())
    replica.commit(commands_frame(0, 1, ("put",)))
    with pytest.raises(ApplicationStateError, match="the state of Odd behind index 1 cannot be shown: TypeError"):
        travel(Odd, tmp_path).step(replica.entries[0])


def test_frames_that_are_none(tmp_path: Path) -> None:
    replica = Replica(Bank())
    replica.commit(open_frame()[:1] + b"junk", commands_frame(0, 1, ("deposit", "ann", 1)))
    step = travel(Bank, tmp_path).step(replica.entries[0])
    assert "refused by every node" in step.notes[0]
    assert [run.method for run in step.commands] == ["deposit"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, ()),
        ({"a": 1}, {"a": 1}, ()),
        (1, "1", (("", 1, "1"),)),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, (("a.b", 1, 2),)),
        ({"a": 1}, {"b": 1}, (("a", 1, MISSING), ("b", MISSING, 1))),
        ({"a": [1, 2, 3]}, {"a": [1, 5, 3]}, (("a[1]", 2, 5),)),
        ({"a": [1, 3]}, {"a": [1, 2, 3]}, (("a[1]", MISSING, 2),)),
        ([1, 2, 3, 4], [1, 4], (("[1]", 2, MISSING), ("[2]", 3, MISSING))),
        ([[1, {"x": 1}]], [[1, {"x": 2}]], (("[0][1].x", 1, 2),)),
        ({"n": float("nan")}, {"n": float("nan")}, ()),
        ({"a": 1}, {"a": True}, (("a", 1, True),)),
        ({5: b"x"}, {5: None}, (("5", b"x", None),)),
        ({"a": [1]}, {"a": {"0": 1}}, (("a", [1], {"0": 1}),)),
    ],
)
def test_what_differs(before: Any, after: Any, expected: tuple[tuple[str, Any, Any], ...]) -> None:
    assert changes_between(before, after) == expected


def test_a_comparison_lists_so_much_and_no_more() -> None:
    changes = changes_between({}, {str(number): number for number in range(CHANGES_MAX + 7)})
    assert len(changes) == CHANGES_MAX + 1
    assert changes[-1].after == "... and 7 more"
