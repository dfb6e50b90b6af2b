"""The `raftactors` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

import typer

from raftactors.cli.node import register as register_node
from raftactors.cli.nodes import register as register_nodes
from raftactors.cli.output import print_error
from raftactors.cli.rebuild import register as register_rebuild
from raftactors.cli.replay import register as register_replay
from raftactors.cli.requests import register as register_requests
from raftactors.cli.snapshot import register as register_snapshot
from raftactors.cli.status import register as register_status
from raftactors.cli.up import register as register_up
from raftactors.cli.wal import register as register_wal
from raftactors.errors import ExitCode, RaftActorsError

# Typer may bring its own copy of click, so the base of the errors about a command line is taken from what it exports.
_CommandLineError = cast("type[Exception]", typer.BadParameter.__mro__[2])

app = typer.Typer(
    name="raftactors",
    help="Replicated actors: run a cluster on this machine, ask it, break it, repair it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for register in (
    register_up,
    register_status,
    register_requests,
    register_nodes,
    register_node,
    register_wal,
    register_replay,
    register_snapshot,
    register_rebuild,
):
    register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every failure is one line on standard error, never a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    if words[:1] == ["--json"]:
        # It belongs to the commands, but may stand before them.
        words[:2] = [*words[1:2], "--json"]
    try:
        code = typer.main.get_command(app).main(words, prog_name="raftactors", standalone_mode=False)
        return code if isinstance(code, int) else ExitCode.OK
    except RaftActorsError as error:
        return print_error(str(error), kind=type(error).__name__, exit_code=error.exit_code, as_json=as_json)
    except _CommandLineError as error:
        text = getattr(error, "format_message", error.__str__)() or "no command given"
        text += "; see `raftactors --help`"
        return print_error(text, kind="UsageError", exit_code=ExitCode.USAGE, as_json=as_json)
    except BrokenPipeError:
        # The reader of our output has gone; what it did not want need not be written, at exit either.
        sys.stdout = None
        return ExitCode.FAILURE
    except OSError as error:
        text = f"{error.filename or 'the operating system'}: {error.strerror or error}; check the path and its mode"
        return print_error(text, kind="OSError", exit_code=ExitCode.FAILURE, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return print_error("interrupted", kind="Interrupted", exit_code=ExitCode.FAILURE, as_json=as_json)
