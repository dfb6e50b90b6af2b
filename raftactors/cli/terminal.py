"""The streams that the commands write to: any encoding, any width, a terminal or not, a reader that leaves."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rich.console import Console

_WIDTH_DEFAULT = 80
_STRICT = frozenset({"strict", "surrogateescape"})
"""How a stream treats characters that it cannot write, unless the user chose another way with PYTHONIOENCODING."""


class _PlainConsole(Console):
    def on_broken_pipe(self) -> None:
        """Leave a reader that has gone to the caller; rich would end the process with its own exit code."""
        raise BrokenPipeError


def prepare_streams() -> None:
    """Let standard output and error write what their encoding does not have as `\\xNN`, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and getattr(stream, "errors", "") in _STRICT:
            reconfigure(errors="backslashreplace")


def make_console(*, stderr: bool = False) -> Console:
    """A console that shows every text as it is: square brackets are no marks, and lines are not broken or cut.

    Colours: on a terminal, or where FORCE_COLOR asks for them; never where NO_COLOR is set.
    """
    colourless = os.environ.get("NO_COLOR") or os.environ.get("FORCE_COLOR") in {"0", "false"}
    return _PlainConsole(
        stderr=stderr,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,
        color_system=None if colourless else "auto",
    )


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at it; False for a stream that was closed."""
    return stream is not None and not stream.closed and stream.isatty()


def output_width() -> int | None:
    """How many columns a line may take: COLUMNS where it is set, else the terminal's; None for a pipe or a file."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdecimal() and int(asked) > 0:
        return int(asked)
    if not is_terminal(sys.stdout):
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _WIDTH_DEFAULT
    except (OSError, ValueError):
        return _WIDTH_DEFAULT


def visible(text: str) -> str:
    """The text with control characters written out, so that foreign text neither breaks a line nor moves the cursor."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or not _is_control(char) else _written_out(char) for char in text)


def flush_output() -> None:
    """Hand over what is still in the buffer, while a failure can be reported. Raises OSError."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def discard_output() -> None:
    """Forget what could not be written, so that the interpreter does not try it again when it ends."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(descriptor, sys.stdout.fileno())
        finally:
            os.close(descriptor)
    except (OSError, ValueError, AttributeError):
        sys.stdout = None


def _is_control(char: str) -> bool:
    return ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or char in "\u2028\u2029"


def _written_out(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
