"""What a command may know about the world: only what is the same on every replica."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class Context:
    """Given to a method that has a parameter of this type; the caller never sends it.

    `index` is the log index of the command's entry and `ordinal` the command's place among those of the entry: together
    they are unique. `now_ms` is the leader's clock when the entry was proposed, in milliseconds of the epoch, and never
    runs backwards. `session` is 0 without one. `principal` names the authenticated caller, "" when there is none. In a
    query `index` is the last applied index.

    A unit test makes its own: `Bank().deposit("ann", 5, Context(now_ms=1_000))`.
    """

    index: int = 0
    ordinal: int = 0
    now_ms: int = 0
    session: int = 0
    principal: str = ""

    @cached_property
    def random(self) -> random.Random:
        """A generator that is seeded alike on every replica, fresh for each command."""
        return random.Random(self.index << 32 | self.ordinal)
