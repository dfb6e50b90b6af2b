"""How many open files a node process has, and how many connections it can grant with them."""

from __future__ import annotations

import dataclasses
import logging

from raftactors.config import NodeConfig
from raftactors.storage.descriptors import LEAST, arrange_descriptors
from raftactors.transport.allowance import fit_connections

log = logging.getLogger("raftactors.node")

DESCRIPTORS_A_MEMBER = 12
"""Open files that the two links to a member take, its own connections to here not counted."""


def within_descriptors(config: NodeConfig) -> NodeConfig:
    """The configuration with as many connections as the limit of open files holds beside the node itself.

    Sets the soft limit of the process. Raises ConfigError if the hard one is too low for any node.
    """
    limits = config.limits
    own = LEAST + DESCRIPTORS_A_MEMBER * len(config.members)
    wanted = limits.client_connections_max + 2 * limits.peer_connections_max + own
    fitting = fit_connections(limits, arrange_descriptors(wanted) - own)
    if fitting != limits:
        log.warning(
            "the limit of open files leaves room for %d client connections instead of %d; raise it (ulimit -Hn)",
            fitting.client_connections_max,
            limits.client_connections_max,
        )
    return dataclasses.replace(config, limits=fitting)
