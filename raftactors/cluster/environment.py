"""The environment variables of node processes: those of this process, as far as they are meant for the application.

All nodes of a cluster get the same, also those started later. What changes how an interpreter runs is left out: it may
end a node (PYTHONOPTIMIZE, PYTHONWARNINGS=error), slow it down, or make a command end differently than on other nodes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import raftactors
from raftactors.cluster.search_paths import absolute_entries, is_found_by_finder, own_search_paths

_LEFT_OUT = frozenset(
    {
        *("PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONINTMAXSTRDIGITS"),
        *("PYTHONDEVMODE", "PYTHONDEBUG", "PYTHONVERBOSE", "PYTHONASYNCIODEBUG", "PYTHONPROFILEIMPORTTIME"),
        *("PYTHONMALLOC", "PYTHONMALLOCSTATS", "PYTHONTRACEMALLOC", "PYTHONDUMPREFS", "PYTHONDUMPREFSFILE"),
        # Set anew for every node.
        *("PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONNOUSERSITE", "PYTHONUTF8"),
    }
)
_OF_THE_INTERPRETER = frozenset(
    {
        *("PYTHONPATH", "PYTHONHOME", "PYTHONPLATLIBDIR"),
        *("PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"),
    }
)
"""These are handed on, unless this interpreter was told to pay no attention to them (`python -E`, `python -I`)."""


def node_environment() -> dict[str, str]:
    """The variables for a node that is started from here and now; whoever starts it adds what is the node's own."""
    left_out = _LEFT_OUT | (_OF_THE_INTERPRETER if sys.flags.ignore_environment else frozenset())
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    python_path = _python_path(environment.pop("PYTHONPATH", ""))
    if python_path:
        environment["PYTHONPATH"] = python_path
    if not _is_our_home(environment.get("PYTHONHOME", "")):
        environment.pop("PYTHONHOME", None)
    for name in ("PYTHONHOME", "PYTHONPYCACHEPREFIX"):
        if name in environment:
            environment[name] = os.pathsep.join(map(_from_root, environment[name].split(os.pathsep)))
    # What the application prints must not make its command fail, whatever the language of the terminal is.
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    # File names are the same bytes there as here, whichever option made it so here.
    environment["PYTHONUTF8"] = str(int(sys.flags.utf8_mode))
    if sys.flags.no_user_site:
        environment["PYTHONNOUSERSITE"] = "1"
    return environment


def _python_path(given: str) -> str:
    """The variable's entries made absolute, since a node works in another folder; and where raftactors itself is."""
    entries = list(absolute_entries(given.split(os.pathsep))) if given else []
    root = os.path.realpath(Path(raftactors.__file__).parents[1])
    if not is_found_by_finder("raftactors"):
        entries += [path for path in own_search_paths() if os.path.realpath(path) == root and path not in entries]
    return os.pathsep.join(entries)


def _is_our_home(home: str) -> bool:
    """Whether this very interpreter lives there; the variable may have been set for another program since."""
    prefix = home.partition(os.pathsep)[0]
    return bool(prefix) and os.path.realpath(prefix) in map(os.path.realpath, (sys.base_prefix, sys.prefix))


def _from_root(path: str) -> str:
    try:
        return os.path.abspath(path)
    except FileNotFoundError:  # The working folder is gone, and what is relative to it as well.
        return path
