"""What an author writes, and how a node finds it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftactors.app import Application, Context, KeyValue, command, query
from raftactors.app.application import methods_of
from raftactors.app.loading import load_application
from raftactors.errors import ApplicationStateError, ApplicationUnknownError, ConfigError, ExitCode
from tests.app.bank import Bank


def test_an_application_is_a_plain_class() -> None:
    bank = Bank()
    assert bank.deposit("ann", 5) == 5
    assert bank.withdraw("ann", amount=2) == 3
    assert bank.balance("ann") == 3
    assert bank.draw(Context(index=9, now_ms=5), "x")[:4] == ["x", 9, 0, 5]


def test_the_random_of_a_context_follows_from_its_place_in_the_log() -> None:
    def numbers(index: int, ordinal: int) -> list[float]:
        context = Context(index=index, ordinal=ordinal)
        return [context.random.random() for _ in range(3)]

    assert numbers(5, 1) == numbers(5, 1)
    assert len({tuple(numbers(*place)) for place in [(5, 1), (5, 2), (6, 1)]}) == 3


def test_the_method_table_holds_inherited_and_overridden_methods() -> None:
    class Savings(Bank):
        @command
        def deposit(self, who: str, amount: int, note: str = "") -> int:
            self.journal.append(note)
            return super().deposit(who, amount)

        def private(self) -> None: ...

    table = methods_of(Savings)
    assert {name for name, method in table.items() if method.kind == "query"} == {"balance", "clock"}
    assert [parameter.name for parameter in table["deposit"].schema.parameters] == ["who", "amount", "note"]
    assert "private" not in table
    assert methods_of(Savings) is table
    assert [parameter.name for parameter in methods_of(Bank)["deposit"].schema.parameters] == ["who", "amount"]


def test_an_override_without_its_mark_is_refused() -> None:
    class Careless(Bank):
        def deposit(self, who: str, amount: int) -> int:
            return 0

    with pytest.raises(ConfigError, match="overrides a command; decorate it with @command"):
        methods_of(Careless)


def test_names_that_are_taken_or_private_are_refused() -> None:
    class Hidden(Application):
        @command
        def _hidden(self) -> None: ...

    class Reserved(Application):
        @query
        def snapshot(self) -> object: ...

    class Alias(Application):
        @command
        def first(self) -> None: ...

        second = first

    for application in (Hidden, Reserved, Alias):
        with pytest.raises(ConfigError, match=application.__name__):
            methods_of(application)


def test_marks_stand_on_plain_methods_and_only_once() -> None:
    with pytest.raises(ConfigError, match="plain method"):
        command(staticmethod(len))
    with pytest.raises(ConfigError, match="choose one"):

        @command
        @query
        def both(self: object) -> None: ...


def test_the_default_snapshot_is_the_attributes() -> None:
    bank = Bank()
    bank.deposit("ann", 5)
    state = bank.snapshot()
    other = Bank()
    other.deposit("bob", 1)
    other.restore(state)
    assert vars(other) == {"balances": {"ann": 5}, "journal": []}
    for foreign in ([1, 2], {1: 2}, None):
        with pytest.raises(ApplicationStateError, match="Bank has no restore"):
            other.restore(foreign)


@pytest.fixture
def modules(tmp_path: Path) -> Iterator[Path]:
    """A folder for modules; afterwards the interpreter knows nothing of them."""
    names, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - names:
        del sys.modules[name]


BODY = """
from raftactors.app import Application, command
class Counter(Application):
    @command
    def add(self, n: int) -> int: return n
"""


def test_an_application_is_loaded_by_module_or_file(modules: Path) -> None:
    (modules / "loading_counter.py").write_text(BODY)
    by_module = load_application("loading_counter:Counter", [str(modules)])
    assert by_module().add(3) == 3  # type: ignore[attr-defined]  # its class is known at run time only
    assert sys.path[0] == str(modules)
    by_file = load_application(f"{modules / 'loading_counter.py'}:Counter")
    assert by_file is by_module, "the same file is not executed twice"
    (modules / "json.py").write_text(BODY)
    assert load_application(f"{modules / 'json.py'}:Counter").__name__ == "Counter"
    assert load_application("raftactors.app.kv:KeyValue") is KeyValue


@pytest.mark.parametrize(
    ("body", "spec", "text"),
    [
        (BODY, "nowhere_to_be_found:Counter", "there is no module 'nowhere_to_be_found'; put its folder on PYTHONPATH"),
        (BODY, "{module}.deeper:Counter", "{module}.deeper"),
        (BODY, "{module}:Missing", "{module} has no class Missing; it has Counter"),
        (BODY, "{module}:command", "is no Application; derive the class"),
        (BODY, "{module}", "write it as MODULE:CLASS"),
        (BODY, "{file}.py.py:Counter", "there is no file"),
        ("import nowhere_to_be_found", "{module}:Counter", "fails while it is imported: ModuleNotFoundError"),
        ("1 / 0", "{module}:Counter", "fails while it is imported: ZeroDivisionError: division by zero at {file}:1"),
        ("1 / 0", "{file}:Counter", "fails while it is imported: ZeroDivisionError: division by zero at {file}:1"),
        ("x = (", "{module}:Counter", "SyntaxError"),
        (BODY.replace("n: int", "*n: int"), "{module}:Counter", "takes \\*n"),
        (BODY.replace("@command", ""), "{module}:Counter", "has no method; mark some"),
        (BODY + "    def __init__(self, size): ...", "{module}:Counter", "needs 'size' to be made"),
    ],
)
def test_each_way_to_fail_says_what_to_do(modules: Path, body: str, spec: str, text: str, request: Any) -> None:
    module = f"loading_case_{abs(hash(request.node.name))}"
    file = modules / f"{module}.py"
    file.write_text(body)
    with pytest.raises(ApplicationUnknownError, match=text.format(module=module, file=file)) as caught:
        load_application(spec.format(module=module, file=file), [str(modules)])
    assert caught.value.exit_code is ExitCode.APPLICATION_UNKNOWN
    assert module not in sys.modules or "imported" not in text
