"""Asks before a node takes part, and again while it stands without a leader."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import zmq

from raftactors.config import NodeConfig
from raftactors.errors import ConfigError
from raftactors.joining.asking import ask_members
from raftactors.joining.rule import contradictions, describe, verdict

_log = logging.getLogger("raftactors.node")

ASK_AGAIN_MS = 2_000
"""How often a node that knows no leader asks the others; a cluster in order has elected one before the first time."""


def check_at_start(config: NodeConfig) -> None:
    """Ask the other members, for at most `ask_members_ms`, before the node opens or binds anything.

    Raises NotAMemberError or ConfigDisagreesError when so many contradict this node that it has to believe them.
    """
    with zmq.Context() as context:
        _check(config, context)


def _check(config: NodeConfig, context: zmq.Context[Any], *, known: str = "") -> str:
    """Raise what the members' answers demand; returns what those say differently who are too few to be believed.

    It is logged unless it is `known`: one of the two is wrong, and this node cannot tell which.
    """
    found = contradictions(config, ask_members(config, context))
    error = verdict(config, found)
    if error is not None:
        raise error
    text = describe(found)
    if text and text != known:
        _log.warning("the configuration of this node or of another is wrong: %s", text)
    return text


class ConfigurationWatch:
    """A thread that checks the configuration every `ASK_AGAIN_MS` while `leader_id()` is 0.

    A node that was started before the others cannot learn earlier that it does not belong to them. `fileno` becomes
    readable when `error` says why the node has to end. The `context` is the node's own, so that no new one has to be
    made when descriptors have become scarce.
    """

    def __init__(self, config: NodeConfig, *, leader_id: Callable[[], int], context: zmq.Context[Any]) -> None:
        self.error: ConfigError | None = None
        self._config = config
        self._leader_id = leader_id
        self._context = context
        self._closing = threading.Event()
        self._ended_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="raftactors-configuration-watch", daemon=True)

    def start(self) -> None:
        """Begin; a node without other members, or one that is not to ask, needs no thread."""
        if len(self._config.members) > 1 and self._config.ask_members_ms:
            self._thread.start()

    def fileno(self) -> int:
        """What a selector waits for."""
        return self._ended_fd

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._ended_fd)

    def _run(self) -> None:
        known = ""
        while not self._closing.wait(ASK_AGAIN_MS / 1000):
            if self._leader_id():
                continue
            try:
                known = _check(self._config, self._context, known=known)
            except ConfigError as error:
                self.error = error
                os.eventfd_write(self._ended_fd, 1)
                return
