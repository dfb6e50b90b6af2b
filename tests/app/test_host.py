"""The replica: what is answered to whom, determinism, snapshots, and what must stop the node."""

from __future__ import annotations

import random
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no type information
import pytest

from raftactors.app import Application, KeyValue, command
from raftactors.app.host import ApplicationHost
from raftactors.codec import frames
from raftactors.codec.batch import encode_batch
from raftactors.codec.frames import FrameKind
from raftactors.codec.msgpack import pack
from raftactors.codec.replies import RejectedReply, ResultsReply, ResultStatus, decode_reply
from raftactors.config import Limits
from raftactors.core.types import Entry, EntryType
from raftactors.errors import ApplicationStateError, EntryUnknownError, ExitCode, InvariantViolation
from tests.app.bank import Bank
from tests.app.replica import (
    INCARNATION,
    NODE_ID,
    Replica,
    close_frame,
    commands_frame,
    keep_alive_frame,
    open_frame,
    outcomes,
)

OK = ResultStatus.OK


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def replica(bank: Bank) -> Replica:
    return Replica(bank)


def raw_commands(*commands: bytes) -> bytes:
    body = frames.encode_commands(0, session=0, first_sequence=1, acked=0, commands=commands)
    return bytes([FrameKind.COMMANDS]) + body[8:]


def test_replies_name_index_leader_and_sequence(replica: Replica) -> None:
    session = replica.open()
    replica.host.leader_id = 3
    (reply,) = replica.commit(commands_frame(session, 1, ("deposit", "ann", 5), ("withdraw", "ann")))
    assert isinstance(reply, ResultsReply)
    assert (reply.index, reply.leader_id, reply.first_sequence) == (2, 3, 1)
    assert outcomes(reply) == [(OK, 5), (OK, 4)]
    assert replica.ask(("balance", "ann"), ("balance", "bob")) == [(OK, 4), (OK, 0)]


@pytest.mark.parametrize(("node", "incarnation"), [(2, INCARNATION), (NODE_ID, INCARNATION + 1)])
def test_only_the_process_that_took_a_frame_answers_it(bank: Bank, node: int, incarnation: int) -> None:
    here, there = Replica(bank), Replica(Bank(), node_id=node)
    for replica, life in ((here, INCARNATION), (there, incarnation)):
        for index, batch in enumerate(([open_frame()], [commands_frame(1 << 16, 1, ("deposit", "ann", 5))]), 1):
            payload = encode_batch([(0, batch[0])], origin_node=1, origin_incarnation=INCARNATION, timestamp_ms=index)
            replies = replica.host.apply(Entry(1, index, payload), origin_incarnation=life)
            assert len(replies) == (1 if replica is here else 0)
    assert here.host.state_digest() == there.host.state_digest()
    # The other replica has the result all the same, for a client that asks there again.
    assert there.run(1 << 16, 1, ("deposit", "ann", 5)) == [(OK, 5)]


def test_what_a_method_raises_goes_back_and_what_it_did_stays(replica: Replica, bank: Bank) -> None:
    session = replica.open()
    refused = (ResultStatus.APPLICATION_ERROR, ["ValueError", "ann has 0"])
    assert replica.run(session, 1, ("withdraw", "ann", 3), ("deposit", "ann", 1)) == [refused, (OK, 1)]
    assert bank.journal == ["withdraw ann"]
    assert replica.run(session, 1, ("withdraw", "ann", 3)) == [refused]
    assert bank.journal == ["withdraw ann"]


def test_addresses_of_objects_do_not_get_into_the_replicated_state(replica: Replica) -> None:
    assert replica.run(0, 1, ("fail_with_address",)) == [
        (ResultStatus.APPLICATION_ERROR, ["RuntimeError", "<object object at 0x...>"])
    ]


class Unspeakable(Exception):
    """An exception without a text."""

    def __str__(self) -> str:
        raise RuntimeError


class Raiser(Application):
    """Raises what is hard to report."""

    @command
    def unspeakable(self) -> None:
        raise Unspeakable

    @command
    def surrogate(self) -> None:
        raise ValueError("\ud800" + "x" * 5_000)


def test_every_exception_can_be_reported() -> None:
    (first, second) = Replica(Raiser()).run(0, 1, ("unspeakable",), ("surrogate",))
    assert first == (ResultStatus.APPLICATION_ERROR, ["Unspeakable", "(the text of the exception cannot be made)"])
    assert second == (ResultStatus.APPLICATION_ERROR, ["ValueError", "?" + "x" * 999])


def test_lack_of_memory_stops_the_node(replica: Replica) -> None:
    with pytest.raises(MemoryError):
        replica.run(0, 1, ("run_out_of_memory",))


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (("deposit", "ann"), ResultStatus.ARGUMENTS, "deposit() misses its argument 'amount'"),
        (("deposit", "ann", True), ResultStatus.ARGUMENTS, "deposit() argument 'amount' must be int, not bool"),
        (("balance", "ann"), ResultStatus.UNKNOWN_METHOD, "Bank.balance() is a query; send it as one"),
        (("snapshot",), ResultStatus.UNKNOWN_METHOD, "Bank has no command 'snapshot'; it has deposit, "),
        (("__init__",), ResultStatus.UNKNOWN_METHOD, "Bank has no command '__init__'"),
    ],
)
def test_a_call_that_does_not_fit_says_why(
    replica: Replica, call: tuple[Any, ...], status: ResultStatus, text: str
) -> None:
    ((got, content),) = replica.run(0, 1, call)
    assert got == status
    assert content.startswith(text)


@pytest.mark.parametrize(
    "value",
    [1, None, "put", {"a": 1, "b": 2, "c": 3}, [], ["put", []], [["put"], [], {}], ["put", {}, []], ["put", None, {}]],
)
def test_a_command_of_another_shape_is_refused(replica: Replica, value: object) -> None:
    (reply,) = replica.commit(raw_commands(pack(value)))
    assert outcomes(reply) == [(ResultStatus.ARGUMENTS, "a command is [method, [args], {kwargs}]")]


@pytest.mark.parametrize("command", [b"", b"\xc1", pack(["deposit", [], {}]) + b"x", b"\xc7\x01\x05x"])
def test_a_command_that_is_no_msgpack_is_refused(replica: Replica, command: bytes) -> None:
    (reply,) = replica.commit(raw_commands(command))
    assert outcomes(reply) == [(ResultStatus.ARGUMENTS, "the command is not decodable: msgpack_malformed")]


@pytest.mark.parametrize("what", ["set", "huge", "long"])
def test_a_result_that_cannot_travel_is_an_error_of_the_application(replica: Replica, what: str) -> None:
    ((status, content),) = replica.run(0, 1, ("give_back", what))
    assert status == ResultStatus.APPLICATION_ERROR
    assert content[0] == "ResultError"
    assert "give_back()" in content[1]


def test_a_value_as_large_as_a_command_may_be_comes_back() -> None:
    limits = Limits()
    replica = Replica(KeyValue(), limits=limits)
    room = limits.command_bytes_max - len(frames.encode_call("put", ["", bytes(70_000)])) + 70_000
    assert len(frames.encode_call("put", ["k", bytes(room - 1)])) == limits.command_bytes_max
    assert replica.run(0, 1, ("put", "k", bytes(room - 1))) == [(OK, 1)]
    assert replica.ask(("get_with_version", "k")) == [(OK, [bytes(room - 1), 1])]
    assert replica.ask(("scan",)) == [(OK, [["k", bytes(room - 1)]])]
    oversize = replica.run(0, 1, ("put", "kk", bytes(room - 1)))
    refusal = "the command is not decodable: msgpack_oversize: 131073 bytes, at most 131072"
    assert oversize == [(ResultStatus.ARGUMENTS, refusal)]


def test_the_context_is_the_same_on_every_replica() -> None:
    drawn = []
    for node in (1, 2):
        replica = Replica(Bank(), node_id=node)
        replica.apply(Entry(1, 1))
        calls = commands_frame(0, 1, ("draw", "a"), ("deposit", "ann", 1), ("draw", "b"))
        replica.commit(calls, open_frame(), now_ms=77)
        payload = encode_batch(
            [(0, commands_frame(2 << 16 | 1, 1, ("draw", "c")))],
            origin_node=node,
            origin_incarnation=INCARNATION,
            timestamp_ms=5,
        )
        drawn.append(outcomes(replica.apply(Entry(1, 3, payload))[0])[0][1])
        assert replica.ask(("clock",)) == [(OK, [3, 77])]
    assert drawn[0] == drawn[1]
    assert drawn[0][:5] == ["c", 3, 1, 77, 2 << 16 | 1]


def test_commands_of_one_entry_draw_different_numbers(replica: Replica) -> None:
    replies = replica.commit(commands_frame(0, 1, ("draw", "x"), ("draw", "x")), commands_frame(0, 1, ("draw", "x")))
    drawn = [tuple(content) for reply in replies for _, content in outcomes(reply)]
    assert len(set(drawn)) == 3


def test_a_frame_that_a_gateway_should_have_refused_stops_nobody(replica: Replica) -> None:
    replies = replica.commit(b"\x03short", b"\x04\x01", b"\x05", b"\x06", commands_frame(0, 1, ("deposit", "ann", 1)))
    assert all(isinstance(reply, RejectedReply) and reply.index == 1 for reply in replies[:4])
    assert outcomes(replies[4]) == [(OK, 1)]


def test_a_malformed_query_frame_is_refused(replica: Replica) -> None:
    assert isinstance(decode_reply(replica.host.query(0, b"\x09")), RejectedReply)
    assert replica.ask(("deposit", "ann", 1)) == [
        (ResultStatus.UNKNOWN_METHOD, "Bank.deposit() is a command; send it as one")
    ]


GOOD = encode_batch([(0, open_frame())], origin_node=1, origin_incarnation=INCARNATION, timestamp_ms=1)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x02" + GOOD[1:],
        GOOD[:1] + b"\x02" + GOOD[2:],
        GOOD[:-1],
        encode_batch([(0, b"\x07")], origin_node=1, origin_incarnation=INCARNATION, timestamp_ms=1),
    ],
)
def test_an_unknown_payload_stops_the_node(replica: Replica, payload: bytes) -> None:
    with pytest.raises(EntryUnknownError, match=r"^entry 1/1 cannot be applied: .*newer version") as caught:
        replica.apply(Entry(1, 1, payload))
    assert caught.value.exit_code is ExitCode.APPLICATION_FAILED


@pytest.mark.parametrize(("term", "index"), [(2, 2), (2, 4), (1, 3), (2, 0)])
def test_an_entry_that_is_not_the_next_stops_the_node(replica: Replica, term: int, index: int) -> None:
    replica.apply(Entry(1, 1))
    replica.apply(Entry(2, 2))
    with pytest.raises(InvariantViolation, match="cannot follow 2/2"):
        replica.apply(Entry(term, index))


def test_a_query_before_its_index_is_a_fault_of_the_program(replica: Replica) -> None:
    with pytest.raises(InvariantViolation):
        replica.host.query(1, b"")


def test_empty_and_membership_entries_only_count(replica: Replica) -> None:
    assert replica.apply(Entry(3, 1)) == []
    assert replica.apply(Entry(4, 2, b"\xff", EntryType.CONF_CHANGE_V2)) == []
    assert (replica.host.applied_index, replica.host.applied_term) == (2, 4)


def test_the_digest_tells_logs_apart() -> None:
    logs = [
        [Entry(1, 1), Entry(1, 2)],
        [Entry(1, 1), Entry(2, 2)],
        [Entry(1, 1), Entry(1, 2, b"", EntryType.CONF_CHANGE)],
        [Entry(1, 1), Entry(1, 2, b"x", EntryType.CONF_CHANGE)],
        [Entry(1, 1), Entry(1, 2, b"x", EntryType.CONF_CHANGE_V2)],
        [Entry(1, 1)],
    ]
    digests = []
    for log in logs:
        replica = Replica(Bank())
        for entry in log:
            replica.apply(entry)
        digests.append(replica.host.digest)
    assert len(set(digests)) == len(logs)


def workload(seed: int, steps: int) -> list[Entry]:
    """A log of everything: sessions that open, close, fall idle and repeat themselves, commands good and bad."""
    rng = random.Random(seed)
    writer = Replica(KeyValue(), limits=LIMITS)
    sessions: list[int] = [99]
    now_ms = 0
    for _ in range(steps):
        now_ms += rng.randrange(-5, 60)
        batch: list[bytes] = []
        for position in range(rng.randrange(1, 5)):
            session = rng.choice(sessions)
            key = f"k{rng.randrange(9)}"
            first = rng.randrange(1, 9)
            acked = rng.randrange(9)
            batch.append(
                rng.choice(
                    [
                        open_frame(),
                        keep_alive_frame(session, acked),
                        close_frame(session),
                        b"\x03malformed",
                        *[
                            commands_frame(each, first, *calls, acked=acked)
                            for each in (0, session)
                            for calls in (
                                [("put", key, key), ("delete", f"k{position}")],
                                [("compare_and_swap", key, None, b"1"), ("put", "", b"")],
                                [("missing",), ("put", 5)],
                            )
                        ],
                    ]
                )
            )
            if batch[-1] == open_frame():
                sessions.append((writer.host.applied_index + 1) << 16 | position)
        if rng.random() < 0.1:
            # The sessions foreseen for this entry then stay unknown, which is one more case.
            writer.apply(Entry(1, writer.host.applied_index + 1))
        else:
            writer.commit(*batch, now_ms=max(now_ms, 0))
    return writer.entries


LIMITS = Limits(sessions_max=4, session_ttl_ms=300, session_inflight_max=3)


@pytest.mark.parametrize("seed", range(5))
def test_a_restored_replica_equals_one_that_replayed(seed: int) -> None:
    log = workload(seed, 120)
    replayed = Replica(KeyValue(), limits=LIMITS)
    cut = random.Random(seed).randrange(len(log))
    for entry in log[:cut]:
        replayed.apply(entry)
    restored = Replica(KeyValue(), limits=LIMITS, node_id=2)
    restored.host.restore(replayed.host.snapshot())
    for entry in log[cut:]:
        assert restored.host.state_digest() == replayed.host.state_digest(), f"before entry {entry.index}"
        replayed.apply(entry)
        restored.host.apply(entry, origin_incarnation=1)
    for host in (replayed.host, restored.host):
        assert (host.applied_index, host.applied_term) == (len(log), 1)
    assert restored.host.digest == replayed.host.digest
    assert restored.host.now_ms == replayed.host.now_ms
    assert restored.host.snapshot() == replayed.host.snapshot()


def test_state_digests_tell_states_apart(replica: Replica, bank: Bank) -> None:
    session = replica.open()
    digests = {replica.host.state_digest()}
    bank.balances["ann"] = 1
    digests.add(replica.host.state_digest())
    replica.commit(keep_alive_frame(session), now_ms=2_000)
    digests.add(replica.host.state_digest())
    assert len(digests) == 3


@pytest.mark.parametrize("unfit", [(1, 2), {1}, object(), 2**70, type("Text", (str,), {})("x")])
def test_a_state_that_would_come_back_different_is_refused(replica: Replica, bank: Bank, unfit: object) -> None:
    bank.balances["ann"] = unfit  # type: ignore[assignment]  # that is the mistake
    with pytest.raises(ApplicationStateError, match=r"the state of Bank cannot be snapshotted: .* snapshot\(\)"):
        replica.host.snapshot()


def test_an_application_that_can_never_be_snapshotted_is_refused_at_the_start() -> None:
    class Tags(Application):
        def __init__(self) -> None:
            self.tags: set[str] = set()

    with pytest.raises(ApplicationStateError, match="the state of Tags"):
        ApplicationHost(Tags(), limits=Limits(), node_id=1)


def test_keys_that_no_message_could_have_are_fine_in_a_state(replica: Replica, bank: Bank) -> None:
    bank.balances = {1: 2}  # type: ignore[dict-item]  # another author's choice
    other = Bank()
    ApplicationHost(other, limits=Limits(), node_id=2).restore(replica.host.snapshot())
    assert vars(other) == vars(bank)


MAGIC = b"RAFA\x02"
HEAD = msgpack.packb([1, 1, 1, 1, 0])
END = msgpack.packb([])


@pytest.mark.parametrize(
    "snapshot",
    [
        b"",
        b"RAFA\x01" + HEAD + msgpack.packb([{}]) + END,
        MAGIC,
        MAGIC + b"\xc1",
        MAGIC + HEAD,
        MAGIC + HEAD + msgpack.packb([{}]),
        MAGIC + HEAD + msgpack.packb([{}]) + END + b"x",
        MAGIC + HEAD + msgpack.packb([{}]) + END + b"\x92",
        MAGIC + HEAD + msgpack.packb([{}]) + msgpack.packb([{}]) + END,
        MAGIC + HEAD + msgpack.packb([{}, {}]) + END,
        MAGIC + HEAD + msgpack.packb({}) + END,
        MAGIC + HEAD + END,
        MAGIC + msgpack.packb([1, 1, 1, 1]) + msgpack.packb([{}]) + END,
        MAGIC + msgpack.packb([-1, 1, 1, 1, 0]) + msgpack.packb([{}]) + END,
        MAGIC + msgpack.packb([1, 1, 1.5, 1, 0]) + msgpack.packb([{}]) + END,
        MAGIC + msgpack.packb([1, 1, 1, 2**32, 0]) + msgpack.packb([{}]) + END,
        MAGIC + msgpack.packb([1, 1, 1, 1, 1]) + msgpack.packb([{}]) + END,
        MAGIC + msgpack.packb([1, 1, 1, 1, 1]),
        MAGIC + HEAD + msgpack.packb([5]) + END,
        MAGIC + HEAD + b"\x91\x81\x81\x01\x02\x03" + END,
    ],
)
def test_a_malformed_snapshot_is_refused(replica: Replica, bank: Bank, snapshot: bytes) -> None:
    good = MAGIC + HEAD + msgpack.packb([vars(bank)]) + END
    replica.host.restore(good)
    with pytest.raises(ApplicationStateError):
        replica.host.restore(snapshot)
