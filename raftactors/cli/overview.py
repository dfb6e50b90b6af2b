"""How the commands are shown as a whole: grouped by purpose, with the first ones to try, and the nearest for a typo."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from typer.core import TyperGroup

from raftactors.errors import ExitCode, RaftActorsError

OTHER = "Other"
PURPOSES = {
    "Run": ("up", "down", "node"),
    "Ask": ("put", "get", "delete", "call"),
    "Look": ("status", "logs", "replay"),
    "Break": ("kill", "pause", "resume", "restart"),
    "Repair": ("rebuild", "snapshot", "wal"),
}

FIRST_STEPS = (
    ("raftactors up --detach", "start three nodes of the key-value application"),
    ("raftactors put greeting hello", "write a value, on two disks when it returns"),
    ("raftactors status", "see which node leads and how far each one is"),
)

_OTHER_WORDS = {"start": "up", "stop": "down", "set": "put", "remove": "delete", "log": "logs", "backup": "snapshot"}
"""What people type who come from other programs."""


class Interrupted(RaftActorsError):
    """Ctrl-C, or SIGINT, before the command had ended."""

    exit_code = ExitCode.INTERRUPTED


class ReaderGoneError(RaftActorsError):
    """Whoever read our standard output has closed it, as `head` does."""

    exit_code = ExitCode.BROKEN_PIPE


class CommandGroup(TyperGroup):
    """A group of commands whose help lists them in whole sentences."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse a line without a command, with the help before the error."""
        if not ctx.resilient_parsing and all(word == "--json" for word in args):
            if not args:
                print(self.bare_page(ctx))
            ctx.fail("no command given")
        return super().parse_args(ctx, args)

    def bare_page(self, ctx: Any) -> str:
        """What is shown when no command is given."""
        return str(ctx.get_help()) + "\n"

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command. Raises a usage error that names the nearest one."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            nearest = self._nearest(ctx, args[0])
            hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
            ctx.fail(f"there is no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands, each with its first sentence as a whole."""
        for purpose, names in self.sections():
            with formatter.section(purpose):
                formatter.write_dl([(name, _first_sentence(self.commands[name])) for name in names])

    def sections(self) -> Iterator[tuple[str, list[str]]]:
        """Headings, and the names under each."""
        yield "Commands", [name for name, command in self.commands.items() if not command.hidden]

    def _nearest(self, ctx: Any, word: str) -> list[str]:
        place = ctx.command_path
        known = {name: f"`{place} {name}`" for name in self.commands}
        for group_name, group in self.commands.items():
            for name in getattr(group, "commands", ()):
                known.setdefault(name, f"`{place} {group_name} {name}`")
        if ctx.parent is None and word in _OTHER_WORDS:
            return [known[_OTHER_WORDS[word]]]
        return [known[name] for name in get_close_matches(word, known, n=2)]


class RootGroup(CommandGroup):
    """All commands of `raftactors`, by purpose."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. What typer would turn into exit codes of its own gets ours."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            text = "interrupted before it was done; a request that was sent may still be carried out"
            raise Interrupted(text) from error
        except BrokenPipeError as error:
            raise ReaderGoneError("standard output was closed by its reader") from error

    def bare_page(self, ctx: Any) -> str:
        """A page of 20 lines for somebody who has just installed it."""
        width = max(len(words) for words, _ in FIRST_STEPS)
        lines = [str(self.help), "", "Try these first:"]
        lines += [f"  {words:<{width}}  {text}" for words, text in FIRST_STEPS]
        lines += ["", "Commands:"]
        lines += [f"  {purpose.lower():<6}  {', '.join(names)}" for purpose, names in self.sections()]
        lines += ["", "`raftactors --help` tells what each command does, `raftactors COMMAND --help`"]
        return "\n".join([*lines, "its options; `raftactors --install-completion` lets the shell complete them.\n"])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The first steps, last: that is what a terminal of 24 lines still shows."""
        with formatter.section("Try these first"):
            formatter.write_dl(list(FIRST_STEPS))

    def sections(self) -> Iterator[tuple[str, list[str]]]:
        """The purposes in their order, and what belongs to none of them."""
        listed = {name for names in PURPOSES.values() for name in names}
        others = tuple(name for name in self.commands if name not in listed)
        for purpose, names in [*PURPOSES.items(), (OTHER, others)]:
            present = [name for name in names if name in self.commands and not self.commands[name].hidden]
            if present:
                yield purpose, present


def usage_text(error: Exception) -> str:
    """One sentence for an error in the command line, with the nearest option and the page that helps."""
    text = str(getattr(error, "format_message", error.__str__)()).partition(" (Possible options")[0].rstrip(".")
    ctx: Any = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    possible = getattr(error, "possibilities", None)
    if option and ctx is not None and ctx.parent is None and (owner := _owner(ctx.command, option)):
        text += f"; it belongs to the commands, so write it after one: `raftactors {owner} {option} ...`"
    elif possible:
        text += f"; did you mean {possible[0]}?"
    separator = " see" if text.endswith("?") else "; see"
    return f"{text}{separator} `{'raftactors' if ctx is None else ctx.command_path} --help`"


def _owner(group: Any, option: str) -> str | None:
    """A command that has the option."""
    for name in ("status", *group.commands):
        if any(option in parameter.opts for parameter in group.commands[name].params):
            return str(name)
    return None


def _first_sentence(command: Any) -> str:
    paragraph = (command.help or "").strip().partition("\n\n")[0]
    return " ".join(paragraph.split()).partition(". ")[0]
