"""The scrubber: a pass each interval, at most so many bytes a second, and damage told at once."""

from __future__ import annotations

from collections.abc import Iterator

from raftactors.actors.mailbox import Mailbox
from raftactors.actors.messages import ScrubReport
from raftactors.actors.scrubber import Scrubber
from raftactors.config import Limits
from raftactors.storage.scrubbing import Damage

LIMITS = Limits(scrub_interval_ms=60_000, scrub_bytes_per_second=1_000)


class Rig:
    """A scrubber whose clock goes on exactly as long as it asks to sleep."""

    def __init__(self, *passes: list[int | Damage]) -> None:
        self.now_s = 500.0
        self.began_at: list[float] = []
        self.stepped_at: list[float] = []
        self._passes = iter(passes)
        self.monitor = Mailbox("monitor", messages_max=10)
        self.mailbox = Mailbox("scrubber", messages_max=10)
        self.scrubber = Scrubber(
            self.mailbox, begin_pass=self.begin, limits=LIMITS, monitor=self.monitor, clock=lambda: self.now_s
        )

    def begin(self) -> Iterator[int | Damage]:
        self.began_at.append(self.now_s)
        for step in next(self._passes):
            self.stepped_at.append(self.now_s)
            yield step

    def sleep_and_flush(self) -> None:
        assert self.mailbox.idle_timeout_s is not None
        self.now_s += self.mailbox.idle_timeout_s
        self.scrubber.flush()

    def reports(self) -> list[ScrubReport]:
        return [] if self.monitor.empty() else list(self.monitor.get().message.messages)


def test_passes_begin_an_interval_apart_and_are_paced() -> None:
    rig = Rig([500, 2_000, 500], [1_000])
    for _ in range(5):
        rig.sleep_and_flush()
    assert rig.began_at == [560.0, 620.0]
    assert rig.stepped_at == [560.0, 560.5, 562.5, 620.0]
    assert rig.reports() == [ScrubReport(passes=1, bytes=3_000)]


def test_damage_is_told_at_once_and_forgotten_when_a_later_pass_does_not_find_it() -> None:
    rig = Rig([500, Damage("the file"), 500], [500])
    rig.sleep_and_flush()
    rig.sleep_and_flush()
    assert rig.reports() == [ScrubReport(passes=0, bytes=500, damage=("the file",))]
    for _ in range(2):
        rig.sleep_and_flush()
    assert rig.reports() == [ScrubReport(passes=1, bytes=1_000, damage=("the file",))]
    for _ in range(2):
        rig.sleep_and_flush()
    assert rig.reports() == [ScrubReport(passes=2, bytes=500)]


def test_a_pass_that_takes_longer_than_the_interval_is_followed_by_the_next() -> None:
    rig = Rig([90_000], [10])
    for _ in range(3):
        rig.sleep_and_flush()
    assert rig.began_at == [560.0, 650.0]


def test_woken_early_it_does_nothing() -> None:
    rig = Rig([500])
    rig.now_s += 59.0
    rig.scrubber.flush()
    assert rig.began_at == []
    assert rig.mailbox.idle_timeout_s == 1.0
