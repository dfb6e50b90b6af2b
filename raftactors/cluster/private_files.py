"""The files and folders of a cluster beside the nodes' data: theirs are made by `raftactors.storage.files`, as these.

Logs may show what commands carried, and configurations where nodes are reached, so nobody but the owner reads them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from raftactors.storage.files import make_private_folder, open_private


def make_folders(path: Path) -> None:
    """Make a folder and its missing parents, each its owner's alone; one that is there stays as it is.

    Raises FileExistsError if something else has the name, and other OSErrors.
    """
    if path.is_dir():
        return
    if path.parent != path:
        make_folders(path.parent)
    try:
        make_private_folder(path)
    except FileExistsError:
        if not path.is_dir():
            raise


def open_log(path: Path) -> BinaryIO:
    """Open a log to write at its end."""
    return os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab")


def create_file(path: Path) -> BinaryIO:
    """Make a new file. Raises FileExistsError."""
    return os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


def replace_text(path: Path, text: str, *, sync: bool = False) -> None:
    """Write a file whole or not at all; with `sync` it is durable under its name on return."""
    temporary = path.with_suffix(".tmp")
    with os.fdopen(open_private(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        file.write(text.encode())
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if sync:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
