"""Arguments against type hints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Optional

import pytest

from raftactors.app import Context
from raftactors.app.schema import Mismatch, compile_hint, compile_schema
from raftactors.errors import ArgumentsError, ConfigError


@pytest.mark.parametrize(
    ("hint", "fitting", "unfitting"),
    [
        (int, [0, -1, 2**64 - 1], [True, 1.0, "1", None]),
        (float, [1.5, 1], [True, "1"]),
        (str, ["", "é"], [b"", 1]),
        (bytes, [b""], ["", [1]]),
        (bool, [True, False], [0, 1, None]),
        (None, [None], [0, False]),
        (Any, [None, 1, [1], {"a": 1}], []),
        (list, [[], [1, "a"]], [{}, "ab"]),
        (dict, [{}, {"a": 1}], [[], "ab"]),
        (list[int], [[], [1, 2]], [[1, "a"], [True], "ab", {}]),
        (list[list[str]], [[], [["a"], []]], [[["a", 1]], ["a"]]),
        (dict[str, int], [{}, {"a": 1}], [{"a": "b"}, {b"a": 1}, []]),
        (dict[bytes, Any], [{b"a": None}], [{"a": None}]),
        (dict[Any, int], [{b"a": 1, "b": 2}], [{"a": "b"}]),
        (int | None, [1, None], ["", True]),
        (Optional[str], ["a", None], [1]),  # noqa: UP045  # the older spelling must work too
        (bytes | str, [b"a", "a"], [1]),
        (list[int] | dict[str, int] | None, [[1], {"a": 1}, None], [["a"], {"a": "b"}, 1]),
        (Literal["up", "down", 3], ["up", 3], ["left", 4, [], {}, True]),
        (Annotated[int, "metres"], [3], ["3"]),
    ],
)
def test_what_fits_a_hint(hint: object, fitting: list[object], unfitting: list[object]) -> None:
    checker = compile_hint(hint, "here")
    for value in fitting:
        assert checker.check(value) == value
    for value in unfitting:
        with pytest.raises(Mismatch):
            checker.check(value)


@pytest.mark.parametrize(
    ("hint", "value", "handed_on"),
    [
        (tuple, [1, "a"], (1, "a")),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
        (tuple[()], [], ()),
        (list[tuple[str, int]], [["a", 1]], [("a", 1)]),
        (dict[str, tuple[int, int]], {"a": [1, 2]}, {"a": (1, 2)}),
        (tuple[int, int] | None, [1, 2], (1, 2)),
    ],
)
def test_arrays_become_the_tuples_that_are_hinted(hint: object, value: object, handed_on: object) -> None:
    assert compile_hint(hint, "here").check(value) == handed_on


@pytest.mark.parametrize(("hint", "value"), [(tuple[int, str], [1]), (tuple[int, ...], [1, "a"]), (tuple, (1, 2))])
def test_arrays_that_do_not_fit_a_tuple(hint: object, value: object) -> None:
    with pytest.raises(Mismatch):
        compile_hint(hint, "here").check(value)


@pytest.mark.parametrize(
    ("hint", "value", "misfit"),
    [
        (dict[int, str], {1: "a"}, {"1": "a"}),
        (dict[bool | None, int], {True: 1, None: 2}, {1: 1}),
        (dict[Literal["a", 2], int], {"a": 1, 2: 2}, {"b": 1}),
        (dict[float, int], {0.5: 1, 1: 1}, {"x": 1}),
        (dict[Any, int], {None: 1, b"x": 2}, {1: "x"}),
    ],
)
def test_any_scalar_can_be_hinted_as_a_key(hint: object, value: object, misfit: object) -> None:
    checker = compile_hint(hint, "here")
    assert checker.check(value) == value
    with pytest.raises(Mismatch):
        checker.check(misfit)


@pytest.mark.parametrize(
    "hint", [set[int], complex, dict[tuple[int, int], str], list[set[int]], Callable[[], int], Literal[1.5]]
)
def test_hints_that_no_message_can_carry_are_refused_with_their_place(hint: object) -> None:
    with pytest.raises(ConfigError, match=r"^Bank\.move parameter 'x'"):
        compile_hint(hint, "Bank.move parameter 'x'")


def test_the_text_of_a_mismatch_names_the_place() -> None:
    with pytest.raises(Mismatch, match=r"^\['a'\] \[1\] must be int, not str$"):
        compile_hint(dict[str, list[int]], "here").check({"a": [1, "b"]})


def method(self: object, first: str, second: int = 2, *, third: bytes | None = None) -> None: ...


def with_context(self: object, first: str, ctx: Context, second: int = 2) -> None: ...


def bare(self, first, ctx=None): ...  # type: ignore[no-untyped-def]  # a method without hints must work too


def test_binding_gives_what_the_method_takes() -> None:
    schema = compile_schema("Bank", method)
    assert schema.bind(["a"], {}) == (["a"], {})
    assert schema.bind(["a", 1], {"third": b"x"}) == (["a", 1], {"third": b"x"})
    assert schema.bind([], {"first": "a", "second": 3}) == ([], {"first": "a", "second": 3})
    assert compile_schema("Bank", bare).bind([{"any": 1}], {}) == ([{"any": 1}], {})


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ([], {}, "misses its argument 'first'"),
        ([1], {}, "argument 'first' must be str, not int"),
        (["a", 1, b"x"], {}, "takes 2 positional arguments, not 3"),
        (["a"], {"first": "b"}, "got its argument 'first' twice"),
        (["a"], {"fourth": 1}, "has no argument 'fourth'"),
        (["a"], {"third": "x"}, "argument 'third' must be bytes or None, not str"),
    ],
)
def test_arguments_that_do_not_fit_say_why(args: list[object], kwargs: dict[str, object], text: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        compile_schema("Bank", method).bind(args, kwargs)
    assert str(caught.value) == f"method() {text}"


@pytest.mark.parametrize(
    ("args", "kwargs", "bound"),
    [
        (["a"], {}, (["a", Context()], {})),
        (["a", 3], {}, (["a", Context(), 3], {})),
        ([], {"first": "a"}, ([], {"first": "a", "ctx": Context()})),
        (["a"], {"second": 3}, (["a", Context()], {"second": 3})),
    ],
)
def test_the_context_takes_its_place_and_is_no_argument(
    args: list[object], kwargs: dict[str, object], bound: tuple[object, object]
) -> None:
    schema = compile_schema("Bank", with_context)
    assert [parameter.name for parameter in schema.parameters] == ["first", "second"]
    taken, named = schema.bind(args, kwargs)
    schema.insert_context(taken, named, Context())
    assert (taken, named) == bound
    with_context(object(), *taken, **named)  # type: ignore[arg-type]  # Python agrees that this can be called


def test_a_caller_cannot_send_a_context() -> None:
    with pytest.raises(ArgumentsError, match="has no argument 'ctx'"):
        compile_schema("Bank", with_context).bind(["a"], {"ctx": None})


def star(self: object, *args: int) -> None: ...
def stars(self: object, **kwargs: int) -> None: ...
def selfless() -> None: ...
async def asynchronous(self: object) -> None: ...
def generator(self: object) -> Any:
    yield 1


def unresolvable(self: object, x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def two_contexts(self: object, a: Context, b: Context | None = None) -> None: ...
def context_by_place(self: object, ctx: Context, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (star, r"takes \*args"),
        (stars, r"takes \*kwargs"),
        (selfless, "give it self"),
        (asynchronous, "coroutine"),
        (generator, "generator"),
        (unresolvable, "cannot be evaluated: NameError"),
        (two_contexts, "two parameters of type Context"),
        (context_by_place, "by position only"),
    ],
)
def test_signatures_that_cannot_be_called_from_outside(function: Callable[..., object], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        compile_schema("Bank", function)
    assert str(caught.value).startswith(f"Bank.{function.__name__}()")
