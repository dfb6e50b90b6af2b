"""A node tells its clients which arguments of its application have the names of request options."""

from __future__ import annotations

import pytest

from raftactors import Application, KeyValue, command, query
from raftactors.app.option_arguments import NAMES_BYTES_MAX, option_arguments
from raftactors.errors import ConfigError


class Locks(Application):
    """Some of its arguments are called like options."""

    @command
    def lock(self, name: str, timeout_ms: int = 0) -> None:
        """Do nothing."""

    @query
    def look(self, *, level: str, timeout_ms: int) -> None:
        """Do nothing."""


class Inherits(Locks):
    """Has them too."""


def test_arguments_of_the_names_of_options_are_found() -> None:
    expected = (("lock", "timeout_ms"), ("look", "level"), ("look", "timeout_ms"))
    assert option_arguments(Locks) == option_arguments(Inherits) == expected
    assert option_arguments(KeyValue) == ()


def test_more_of_them_than_a_welcome_carries_are_refused() -> None:
    def method(number: int) -> object:
        def wait(self: Application, timeout_ms: int) -> None: ...

        wait.__name__ = f"wait_{number:05}"
        return command(wait)

    count = NAMES_BYTES_MAX // 36
    names = [(f"wait_{number:05}", method(number)) for number in range(count + 1)]
    assert len(option_arguments(type("Few", (Application,), dict(names[:count])))) == count
    with pytest.raises(ConfigError, match=f"at most {NAMES_BYTES_MAX}; rename"):
        option_arguments(type("Many", (Application,), dict(names)))
