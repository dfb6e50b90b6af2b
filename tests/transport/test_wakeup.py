"""Waking a sleeper in a poll."""

from __future__ import annotations

import select
import threading
from contextlib import closing

from raftactors.transport import Wakeup


def readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup], [], [], 0)[0])


def test_signals_of_any_number_are_one_wake_up() -> None:
    with closing(Wakeup()) as wakeup:
        assert not readable(wakeup)
        wakeup.clear()
        for _ in range(3):
            wakeup.signal()
        assert readable(wakeup)
        wakeup.clear()
        assert not readable(wakeup)


def test_a_signal_of_another_thread_ends_a_poll() -> None:
    with closing(Wakeup()) as wakeup:
        signaller = threading.Thread(target=wakeup.signal)
        signaller.start()
        assert select.select([wakeup], [], [], 20)[0] == [wakeup]
        signaller.join()


def test_a_late_signal_touches_no_descriptor() -> None:
    wakeup = Wakeup()
    wakeup.close()
    wakeup.close()
    with closing(Wakeup()) as successor:
        wakeup.signal()
        wakeup.clear()
        assert wakeup.fileno() == -1
        assert not readable(successor)
