"""`raftactors put`, `get`, `delete` and `call`: commands and queries of the application."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from raftactors.cli.options import DEFAULT_DATA_DIR, AsJson, DataDir, TimeoutMs
from raftactors.cli.output import print_value
from raftactors.cli.target import Address, find_target
from raftactors.cli.values import ValuesCommand
from raftactors.errors import CommandTooLargeError, ConfigError, RaftActorsError

DEFAULT_TIMEOUT_MS = 10_000
_STDIN_BYTES_MAX = 16 * 1024 * 1024

Key = Annotated[str, typer.Argument(metavar="KEY", help="The key.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (put, get, delete, call):
        app.command(cls=ValuesCommand)(command)


def put(
    context: typer.Context,
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="The value; `-` reads it from standard input.")],
    *,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    addresses: Address = None,
    timeout_ms: TimeoutMs = DEFAULT_TIMEOUT_MS,
    as_json: AsJson = False,
) -> None:
    """Set a key of the key-value application; prints its new version."""
    content = _read_stdin() if value == "-" else value
    with find_target(context, data_dir, addresses).client(timeout_ms) as client:
        print_value(client.call("put", key, content), as_json=as_json)


def get(
    context: typer.Context,
    key: Key,
    *,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    addresses: Address = None,
    timeout_ms: TimeoutMs = DEFAULT_TIMEOUT_MS,
    as_json: AsJson = False,
) -> None:
    """Print the value of a key; ends with 1 and an error if there is none, with --json also with the result null."""
    with find_target(context, data_dir, addresses).client(timeout_ms) as client:
        value = client.query("get", key)
    if value is None:
        if as_json:
            print_value(None, as_json=True)
        raise RaftActorsError(f"there is no key {key!r}; `raftactors call --query scan` lists those there are")
    print_value(value, as_json=as_json)


def delete(
    context: typer.Context,
    key: Key,
    *,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    addresses: Address = None,
    timeout_ms: TimeoutMs = DEFAULT_TIMEOUT_MS,
    as_json: AsJson = False,
) -> None:
    """Remove a key; prints whether there was one."""
    with find_target(context, data_dir, addresses).client(timeout_ms) as client:
        print_value(client.call("delete", key), as_json=as_json)


def call(
    context: typer.Context,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A command of the application.")],
    *,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="Read as JSON where they are JSON, else as text.")
    ] = None,
    query: Annotated[bool, typer.Option("--query", help="METHOD is a query: it reads and changes nothing.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    addresses: Address = None,
    timeout_ms: TimeoutMs = DEFAULT_TIMEOUT_MS,
    as_json: AsJson = False,
) -> None:
    """Call any method of the application, for example `raftactors call transfer ann bob 5`."""
    values = [parse_argument(argument) for argument in arguments or []]
    with find_target(context, data_dir, addresses).client(timeout_ms) as client:
        result = client.query(method, *values) if query else client.call(method, *values)
    print_value(result, as_json=as_json)


def parse_argument(argument: str) -> object:
    """A word of the command line as a value: JSON where it is JSON, else text."""
    try:
        return json.loads(argument, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return argument


def _refuse_constant(name: str) -> object:
    """NaN and Infinity are no JSON: they stay text."""
    raise ValueError(name)


def _read_stdin() -> str:
    if sys.stdin is None:
        raise ConfigError("standard input is closed; give the value as a word")
    content = sys.stdin.buffer.read(_STDIN_BYTES_MAX + 1)
    if len(content) > _STDIN_BYTES_MAX:
        raise CommandTooLargeError(f"standard input has more than {_STDIN_BYTES_MAX} bytes; split the value")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"standard input is not UTF-8 ({error.reason}); encode the value as text") from error
