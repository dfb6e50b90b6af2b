"""The folder that relative paths start from, which may have been deleted under the running program."""

from __future__ import annotations

import os
from pathlib import Path

from raftactors.errors import ConfigError


def current_folder() -> Path | None:
    """The working folder, None if it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def search_here() -> tuple[str, ...]:
    """The working folder as a place to look for modules; nothing if it has been deleted."""
    here = current_folder()
    return () if here is None else (str(here),)


def absolute(path: str | os.PathLike[str]) -> Path:
    """The path from the root on. Raises ConfigError for a relative one in a working folder that has been deleted."""
    try:
        return Path(path).absolute()
    except FileNotFoundError:
        raise ConfigError(
            f"the working folder has been deleted, so the relative path {os.fspath(path)} leads nowhere; "
            "change to a folder that exists, or give the path from / on"
        ) from None
