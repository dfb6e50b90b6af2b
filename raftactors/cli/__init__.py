"""The `raftactors` command."""

from __future__ import annotations

import errno
import platform
import sys
from collections.abc import Sequence
from typing import Annotated, cast

import typer

from raftactors import __version__
from raftactors.cli.logs import register as register_logs
from raftactors.cli.node import register as register_node
from raftactors.cli.nodes import register as register_nodes
from raftactors.cli.output import print_error, print_json
from raftactors.cli.overview import Interrupted, ReaderGoneError, RootGroup, usage_text
from raftactors.cli.rebuild import register as register_rebuild
from raftactors.cli.replay import register as register_replay
from raftactors.cli.requests import register as register_requests
from raftactors.cli.snapshot import register as register_snapshot
from raftactors.cli.status import register as register_status
from raftactors.cli.terminal import discard_output, flush_output, prepare_streams
from raftactors.cli.up import register as register_up
from raftactors.cli.wal import register as register_wal
from raftactors.errors import ExitCode, RaftActorsError

# Typer may bring its own copy of click, so the base of the errors about a command line is taken from what it exports.
_CommandLineError = cast("type[Exception]", typer.BadParameter.__mro__[2])
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

app = typer.Typer(
    name="raftactors",
    cls=RootGroup,
    help="Replicated actors: run a cluster on this machine, ask it, break it, repair it.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for register in (
    register_up,
    register_status,
    register_logs,
    register_requests,
    register_nodes,
    register_node,
    register_wal,
    register_replay,
    register_snapshot,
    register_rebuild,
):
    register(app)


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, errors included; any command takes it.")] = False,
) -> None:
    """What stands before a command."""
    if not version:
        return
    if as_json:
        print_json({"version": __version__, "python": platform.python_version()})
    else:
        print(f"raftactors {__version__} (Python {platform.python_version()})")
    raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every failure is one line on standard error, never a traceback."""
    prepare_streams()
    words, as_json = _with_json_last(sys.argv[1:] if arguments is None else arguments)
    try:
        code = typer.main.get_command(app).main(words, prog_name="raftactors", standalone_mode=False)
        flush_output()
        return code if isinstance(code, int) else ExitCode.OK
    except (BrokenPipeError, ReaderGoneError):
        # As for every program in a pipe: what nobody reads need not be written, nor an error about it.
        discard_output()
        return ExitCode.BROKEN_PIPE
    except RaftActorsError as error:
        return print_error(str(error), kind=type(error).__name__, exit_code=error.exit_code, as_json=as_json)
    except _CommandLineError as error:
        return print_error(usage_text(error), kind="UsageError", exit_code=ExitCode.USAGE, as_json=as_json)
    except OSError as error:
        text = f"{error.filename or 'the operating system'}: {error.strerror or error}; check the path and its mode"
        if error.filename is None and error.errno in _NO_ROOM:
            discard_output()
            text = f"the output cannot be written: {error.strerror}; make room there, or send it elsewhere"
        return print_error(text, kind="OSError", exit_code=ExitCode.FAILURE, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        kind = Interrupted.__name__
        return print_error("interrupted", kind=kind, exit_code=ExitCode.INTERRUPTED, as_json=as_json)


def _with_json_last(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """`--json` may stand anywhere before a `--`: the last command of the line gets it."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    options = [word for word in words[:end] if word != "--json"]
    as_json = len(options) < end
    return [*options, *(["--json"] if as_json else []), *words[end:]], as_json
