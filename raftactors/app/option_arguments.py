"""Which arguments of an application have the names of request options; a node tells its clients."""

from __future__ import annotations

from raftactors.app.application import Application, methods_of
from raftactors.codec.frames import REQUEST_OPTIONS
from raftactors.errors import ConfigError

NAMES_BYTES_MAX = 16_384
"""What these methods and arguments may take together in a node's WELCOME, in bytes of their names."""


def option_arguments(application: type[Application]) -> tuple[tuple[str, str], ...]:
    """The pairs of method and argument, sorted. Raises ConfigError when their names are too many or too long."""
    pairs = sorted(
        (method.name, parameter.name)
        for method in methods_of(application).values()
        for parameter in method.schema.parameters
        if parameter.name in REQUEST_OPTIONS
    )
    size = sum(len(name.encode()) + 8 for pair in pairs for name in pair)
    if size > NAMES_BYTES_MAX:
        raise ConfigError(
            f"{application.__qualname__} has {len(pairs)} arguments named {' or '.join(sorted(REQUEST_OPTIONS))}; with "
            f"their methods' names they take {size} bytes, at most {NAMES_BYTES_MAX}; rename some of the arguments"
        )
    return tuple(pairs)
