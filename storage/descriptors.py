"""Descriptors for the log and the snapshots, kept where connections cannot take them.

The process works below its hard limit of descriptors: connections that come meet the soft limit. What the storage
opens may go past it for an instant, so that no number of connections makes a healthy disk look like a broken one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import threading
import time

from raftactors.errors import ConfigError

RESERVED = 48
"""How many descriptors between the soft and the hard limit are for the storage alone."""

LEAST = 128
"""A node needs at least so many below the reserve, for its files, actors and links."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
_STANDARD_MAX = 2
_PATIENCE_S = 2.0
_PAUSE_S = 0.01

_raising = threading.Lock()


def means_exhausted(error: OSError) -> bool:
    """Whether the error says that descriptors have run out, here or on the whole machine, and nothing of the disk."""
    return error.errno in _EXHAUSTED


def arrange_descriptors(wanted: int) -> int:
    """Set the soft limit to hold `wanted` descriptors, as far as the hard one leaves that beside the reserve.

    Returns how many there are. Raises ConfigError if they are too few for a node.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard - RESERVED if hard != resource.RLIM_INFINITY else max(soft, wanted)
    available = min(max(soft, wanted), most)
    if available < LEAST:
        raise ConfigError(
            f"the hard limit of open files is {hard}; a node needs at least {LEAST + RESERVED}; raise it (ulimit -Hn, "
            "LimitNOFILE= of a service)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (available, hard))
    return available


def open_descriptor(path: str | os.PathLike[str], flags: int, mode: int = 0o600) -> int:
    """`os.open`, out of the reserve where the descriptors have run out. Waits at most 2 s for one. Raises OSError.

    The descriptor is never that of a standard stream: when the application has closed one, what it prints all the same
    must not get into a file of ours.
    """
    descriptor = _open(path, flags, mode)
    if descriptor > _STANDARD_MAX:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _STANDARD_MAX + 1)
    finally:
        os.close(descriptor)


def _open(path: str | os.PathLike[str], flags: int, mode: int) -> int:
    deadline_s = 0.0
    while True:
        try:
            return os.open(path, flags, mode)
        except OSError as error:
            if not means_exhausted(error):
                raise
            deadline_s = deadline_s or time.monotonic() + _PATIENCE_S
            try:
                return _open_from_reserve(path, flags, mode)
            except OSError as still:
                if not means_exhausted(still) or time.monotonic() >= deadline_s:
                    raise
        time.sleep(_PAUSE_S)


def _open_from_reserve(path: str | os.PathLike[str], flags: int, mode: int) -> int:
    """Open with the soft limit raised to the hard one; a connection that comes in this instant may take one as well."""
    with _raising:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            return os.open(path, flags, mode)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
