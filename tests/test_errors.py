"""Errors travel: what a caller may catch comes through a copy and through a pool of processes as it was."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from raftactors import errors
from raftactors.errors import RaftActorsError

MADE: dict[type[RaftActorsError], Callable[[], RaftActorsError]] = {
    errors.ApplicationError: lambda: errors.ApplicationError("ValueError", "too poor"),
    errors.OverloadedError: lambda: errors.OverloadedError("wait", retry_after_ms=20, leader_id=3),
    errors.WireError: lambda: errors.WireError("frame_length", "4 bytes"),
}


def public_errors() -> list[type[RaftActorsError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RaftActorsError)]


def make(kind: type[RaftActorsError]) -> RaftActorsError:
    if kind in MADE:
        error = MADE[kind]()
    elif issubclass(kind, errors.RequestError):
        error = kind("text", leader_id=3)
    else:
        error = kind("text")
    error.exit_code = errors.ExitCode.DATA_LOCKED
    error.add_note("a note")
    return error


def described(error: BaseException) -> tuple[Any, ...]:
    return type(error), str(error), error.args, vars(error)


def raise_it(name: str) -> None:
    raise make(next(kind for kind in public_errors() if kind.__name__ == name))


@pytest.mark.parametrize("kind", public_errors(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy])
def test_a_copy_is_the_same_error(kind: type[RaftActorsError], again: Callable[[Any], Any]) -> None:
    error = make(kind)
    assert described(again(error)) == described(error)


def test_a_pool_of_processes_brings_every_error_back() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for kind in public_errors():
            with pytest.raises(kind) as caught:
                pool.submit(raise_it, kind.__name__).result(60)
            assert described(caught.value) == described(make(kind))


def test_a_subclass_of_the_user_comes_through_too() -> None:
    class Broke(errors.ApplicationError):
        def __init__(self, owner: str, *, missing: int) -> None:
            super().__init__("Broke", f"{owner} lacks {missing}")
            self.owner, self.missing = owner, missing

    error = Broke("ann", missing=5)
    assert described(copy.copy(error)) == described(error)
