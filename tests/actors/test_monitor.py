"""The watchdog: it finds a hung handler, and nothing else."""

from __future__ import annotations

from raftactors.actors.mailbox import Mailbox
from raftactors.actors.monitor import CHECKS, Watchdog


def watch(limit_ms: int = 1000) -> tuple[Mailbox, Watchdog, list[str]]:
    mailbox = Mailbox("storage", messages_max=10)
    hung: list[str] = []
    return mailbox, Watchdog({mailbox: limit_ms}, on_hung=hung.append), hung


def test_a_batch_that_never_ends_is_found() -> None:
    mailbox, watchdog, hung = watch()
    mailbox.busy, mailbox.batches = True, 7
    for look in range(CHECKS + 1):
        watchdog.check(look * 0.25)
    assert hung == ["storage"]


def test_an_idle_actor_is_not_hung_however_long_it_sleeps() -> None:
    mailbox, watchdog, hung = watch()
    mailbox.busy = False
    for look in range(50):
        watchdog.check(look * 10.0)
    assert hung == []


def test_a_busy_actor_that_finishes_batches_is_not_hung() -> None:
    mailbox, watchdog, hung = watch()
    mailbox.busy = True
    for look in range(50):
        mailbox.batches += 1
        watchdog.check(look * 10.0)
    assert hung == []


def test_a_pause_of_the_whole_process_is_not_a_hang() -> None:
    # Between two looks an hour passes, in which the actor could not run either.
    mailbox, watchdog, hung = watch()
    mailbox.busy, mailbox.batches = True, 7
    watchdog.check(0.0)
    watchdog.check(3600.0)
    mailbox.batches = 8
    watchdog.check(3600.25)
    assert hung == []


def test_quick_looks_do_not_shorten_the_limit() -> None:
    mailbox, watchdog, hung = watch(limit_ms=1000)
    mailbox.busy, mailbox.batches = True, 7
    for look in range(90):
        watchdog.check(look * 0.01)
    assert hung == []
