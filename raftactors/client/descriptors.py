"""Whether this process can open more files and connections: libzmq ends the process when it finds that it cannot."""

from __future__ import annotations

import errno
import os
import resource

CONTEXT_DESCRIPTORS = 16
"""What is free before a ZeroMQ context is made, which takes about half of it: other threads open files as well."""

USED_UP = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""The error numbers of a call that would have opened one more."""


def shortage(count: int) -> str:
    """Why this process cannot open `count` more descriptors now, and the way out; empty if it can."""
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(os.eventfd(0, os.EFD_CLOEXEC))
    except OSError as error:
        if error.errno not in USED_UP:
            raise
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (
            f"no file descriptors are left ({error.strerror}; RLIMIT_NOFILE of this process is {limit}); close "
            "clients, connections and files, or raise the limit (ulimit -n)"
        )
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return ""
