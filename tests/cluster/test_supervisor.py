from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from raftactors.cluster.process import NodeProcess, NodeStartError
from raftactors.cluster.supervisor import BackOff, NodeState, Supervisor
from raftactors.errors import ApplicationUnknownError, ConfigError, CorruptWalError, RaftActorsError

Make = Callable[..., NodeProcess]
QUICK = BackOff(first_ms=1, last_ms=4, attempts_max=3)


class Changes:
    """Lets a test wait until the supervisor has reported a change that makes `condition` true."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout=30)


@contextmanager
def supervised(*processes: NodeProcess, changes: Changes | None = None, **options: int) -> Iterator[Supervisor]:
    supervisor = Supervisor(
        {process.node_id: process for process in processes}, back_off=QUICK, on_change=changes or Changes(), **options
    )
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()
        assert not any(process.is_alive for process in processes)


def test_start_serves_and_stop_ends_all(fake_process: Make) -> None:
    processes = [fake_process("serve", node_id) for node_id in (1, 2, 3)]
    with supervised(*processes) as supervisor:
        assert [supervisor.state(node_id) for node_id in (1, 2, 3)] == [NodeState.RUNNING] * 3
    assert [process.exit_code for process in processes] == [0, 0, 0]


def test_a_node_that_dies_on_its_own_comes_back(fake_process: Make) -> None:
    process, changes = fake_process("serve"), Changes()
    with supervised(process, changes=changes) as supervisor:
        os.kill(process.pid, signal.SIGKILL)
        changes.wait(lambda: supervisor.restarts(1) == 1 and supervisor.state(1) is NodeState.RUNNING)
        assert process.incarnation == 2


def test_a_paused_node_that_is_killed_from_outside_comes_back(fake_process: Make) -> None:
    process, changes = fake_process("serve"), Changes()
    with supervised(process, changes=changes) as supervisor:
        supervisor.pause(1)
        assert supervisor.state(1) is NodeState.PAUSED
        os.kill(process.pid, signal.SIGKILL)
        changes.wait(lambda: supervisor.restarts(1) == 1 and supervisor.state(1) is NodeState.RUNNING)


def test_a_node_killed_on_request_stays_dead_until_restart(fake_process: Make) -> None:
    process, other, changes = fake_process("serve"), fake_process("serve", 2), Changes()
    with supervised(process, other, changes=changes) as supervisor:
        supervisor.kill(1)
        # The supervisor has seen later events than the death of node 1, and did nothing about that.
        os.kill(other.pid, signal.SIGKILL)
        changes.wait(lambda: supervisor.restarts(2) == 1 and supervisor.state(2) is NodeState.RUNNING)
        assert supervisor.state(1) is NodeState.KILLED
        assert "on request" in supervisor.reason(1)
        assert not process.is_alive
        supervisor.restart(1)
        assert supervisor.state(1) is NodeState.RUNNING
        assert supervisor.restarts(1) == 0
        assert process.incarnation == 2


def test_restart_of_a_running_node_ends_it_in_order(fake_process: Make) -> None:
    process = fake_process("serve")
    with supervised(process) as supervisor:
        for incarnation in (2, 3, 4):
            pid = process.pid
            supervisor.restart(1)
            assert process.pid != pid
            assert process.incarnation == incarnation
        assert supervisor.restarts(1) == 0


def test_pause_and_resume_change_the_state(fake_process: Make) -> None:
    with supervised(fake_process("serve")) as supervisor:
        supervisor.pause(1)
        assert supervisor.state(1) is NodeState.PAUSED
        supervisor.resume(1)
        assert supervisor.state(1) is NodeState.RUNNING
        supervisor.kill(1)
        with pytest.raises(RaftActorsError, match="node 1 is killed, so it cannot be paused"):
            supervisor.pause(1)


def test_a_node_that_crashes_at_once_is_given_up(fake_process: Make) -> None:
    changes = Changes()
    with supervised(fake_process("crash"), changes=changes) as supervisor:
        changes.wait(lambda: supervisor.state(1) is NodeState.FAILED)
        assert supervisor.restarts(1) == QUICK.attempts_max
        assert "given up after 3 starts" in supervisor.reason(1)
        assert "an actor failed" in supervisor.reason(1)


def test_what_starting_again_cannot_cure_is_not_tried(fake_process: Make) -> None:
    changes = Changes()
    with supervised(fake_process("retire"), changes=changes) as supervisor:
        changes.wait(lambda: supervisor.state(1) is NodeState.FAILED)
        assert supervisor.restarts(1) == 0
        assert "DATA_CORRUPT" in supervisor.reason(1)


def test_a_node_that_cannot_start_ends_all_and_says_why(fake_process: Make) -> None:
    processes = [fake_process("serve"), fake_process("refuse", 2)]
    with pytest.raises(ApplicationUnknownError, match="no module 'refuse'"), supervised(*processes):
        pytest.fail("the supervisor started")


def test_a_start_leaves_out_damaged_nodes_up_to_a_number(fake_process: Make) -> None:
    acts = {1: "damaged", 2: "serve", 3: "serve"}
    with supervised(*(fake_process(act, node_id) for node_id, act in acts.items()), damaged_max=1) as supervisor:
        states = [supervisor.state(node_id) for node_id in acts]
        assert states == [NodeState.FAILED, NodeState.RUNNING, NodeState.RUNNING]
        assert "the log is damaged" in supervisor.reason(1)
        with pytest.raises(CorruptWalError, match="the log is damaged"):
            supervisor.restart(1)


@pytest.mark.parametrize(
    ("acts", "damaged_max", "error"),
    [
        (("damaged", "serve", "serve"), 0, CorruptWalError),
        (("damaged", "damaged", "serve"), 1, CorruptWalError),
        (("damaged", "refuse", "serve"), 1, ApplicationUnknownError),
    ],
)
def test_a_start_leaves_out_no_other_nodes(
    fake_process: Make, acts: tuple[str, ...], damaged_max: int, error: type[RaftActorsError]
) -> None:
    processes = [fake_process(act, node_id) for node_id, act in enumerate(acts, 1)]
    with pytest.raises(error), supervised(*processes, damaged_max=damaged_max):
        pytest.fail("the supervisor started")


def test_a_node_that_never_serves_is_killed_at_the_deadline(fake_process: Make) -> None:
    process = fake_process("deaf")
    with pytest.raises(NodeStartError, match="within 300 ms"), supervised(process, start_timeout_ms=300):
        pytest.fail("the supervisor started")


def test_a_failed_restart_raises_and_leaves_the_node_dead(fake_process: Make) -> None:
    process = fake_process("serve")
    with supervised(process) as supervisor:
        supervisor.kill(1)
        process.config_path.write_text(process.config_path.read_text().replace("serve:", "refuse:"))
        with pytest.raises(ApplicationUnknownError, match="no module 'refuse'"):
            supervisor.restart(1)
        assert supervisor.state(1) is NodeState.FAILED


def test_unknown_nodes_and_a_stopped_supervisor_are_refused(fake_process: Make) -> None:
    unknown = pytest.raises(ConfigError, match=r"node 9 does not exist; the cluster has \[1\]")
    with supervised(fake_process("serve")) as supervisor, unknown:
        supervisor.kill(9)
    with pytest.raises(RaftActorsError, match="the cluster is stopped"):
        supervisor.restart(1)


def test_stop_releases_a_restart_that_waits(fake_process: Make) -> None:
    process, changes = fake_process("serve"), Changes()
    errors: list[RaftActorsError] = []
    with supervised(process, changes=changes) as supervisor:
        supervisor.kill(1)
        process.config_path.write_text(process.config_path.read_text().replace("serve:", "deaf:"))

        def restart() -> None:
            try:
                supervisor.restart(1)
            except RaftActorsError as error:
                errors.append(error)

        waiting = threading.Thread(target=restart)
        waiting.start()
        changes.wait(lambda: process.is_alive)
        supervisor.stop()
        waiting.join(30)
        assert not waiting.is_alive()
    assert [str(error) for error in errors] == ["node 1 was stopped while it started"]


def test_back_off_doubles_and_is_bounded() -> None:
    back_off = BackOff(first_ms=100, last_ms=1_000)
    assert [back_off.delay_ms(attempt) for attempt in range(1, 7)] == [100, 200, 400, 800, 1_000, 1_000]
    assert back_off.delay_ms(10_000) == 1_000
