"""What the simulated clients ask of the application."""

from __future__ import annotations

import importlib
from random import Random
from typing import NamedTuple, Protocol

from raftactors.app.application import Application
from raftactors.app.kv import KeyValue
from raftactors.errors import ConfigError

KEYS = 6

# Few are longer than a sector of the disk, so that a torn write can lose the middle of one.
_VALUE_LENGTHS = (8,) * 12 + (60,) * 6 + (900,)


class Call(NamedTuple):
    """A method and its arguments."""

    method: str
    arguments: list[object]


class Workload(Protocol):
    """An application and what to call on it. Everything must follow from the generator that is passed in."""

    def application(self) -> Application:
        """A fresh instance, as each node and the oracle get one."""
        ...

    def command(self, rng: Random, unique: str) -> Call:
        """A command. `unique` is a text that no other command of the run gets."""
        ...

    def query(self, rng: Random) -> Call:
        """A query."""
        ...


class KeyValueWorkload:
    """The key-value battery: every put has a value of its own, and its result counts all that came before."""

    def application(self) -> Application:
        """A store without keys."""
        return KeyValue()

    def command(self, rng: Random, unique: str) -> Call:
        """Mostly puts, some of them conditional; now and then a call that the application refuses."""
        key = f"k{rng.randrange(KEYS)}"
        dice = rng.random()
        if dice < 0.6:
            return Call("put", [key, unique.ljust(rng.choice(_VALUE_LENGTHS), ".")])
        if dice < 0.75:
            return Call("put_if_version", [key, unique, rng.randrange(12)])
        if dice < 0.87:
            return Call("compare_and_swap", [key, None, unique])
        if dice < 0.95:
            return Call("delete", [key])
        return Call(*rng.choice((("put", ["", unique]), ("none", []), ("put", [1, unique]))))

    def query(self, rng: Random) -> Call:
        """Single keys and the whole store."""
        key = f"k{rng.randrange(KEYS)}"
        return rng.choice((Call("get", [key]), Call("get_with_version", [key]), Call("scan", []), Call("count", [])))


def load_workload(name: str) -> Workload:
    """Make the workload `MODULE:CLASS`. Raises ConfigError if there is none."""
    module, _, attribute = name.partition(":")
    try:
        workload: Workload = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"workload is {name!r}; write it as MODULE:CLASS, importable from here: {error}") from error
    return workload
