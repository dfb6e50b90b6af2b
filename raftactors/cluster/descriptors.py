"""Whether this process may open the file descriptors that a cluster takes, asked before anything is started."""

from __future__ import annotations

import os
import resource

from raftactors.errors import ConfigError

_FIXED = 48
"""Lock, socket, selector, a client for the status, and what starting a process takes for a moment."""

_PER_NODE = 8
"""Three ports, two pipes, the process, connections of the client."""


def require_descriptors(nodes: int) -> None:
    """Raise ConfigError unless a cluster of `nodes` leaves this process within its limit (RLIMIT_NOFILE).

    Found out later, it would be an error of whatever came last, or the end of the process inside libzmq.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    needed = used + _FIXED + _PER_NODE * nodes
    if limit != resource.RLIM_INFINITY and needed > limit:
        raise ConfigError(
            f"a cluster of {nodes} nodes takes this process to {needed} open file descriptors ({used} are open), and "
            f"its limit is {limit}; raise it with `ulimit -n {needed}` or more, or close some"
        )
