"""The base of every actor: batches in, one flush out, and fail-stop."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import pykka

from raftactors.actors.mailbox import Batch, Mailbox
from raftactors.errors import ExitCode, InvariantViolation, RaftActorsError

log = logging.getLogger("raftactors.node")


class BatchActor(pykka.ThreadingActor):
    """An actor that handles what waits in its mailbox as one batch and performs the effects once, in `flush`.

    Subclasses fill `handlers` (message type -> method). An exception in a handler ends the process with its own exit
    code: a node with one dead actor would be half alive, which is worse than dead (RELIABILITY E1).
    """

    use_daemon_thread = True

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        super().__init__()
        self.handlers: dict[type, Callable[[Any], None]] = {}

    def _create_actor_inbox(self) -> Mailbox:  # type: ignore[override]  # pykka's is static; ours is given its mailbox
        return self.mailbox

    def on_start(self) -> None:
        """Do what needs the actor's own thread. Ends the process when it fails."""
        try:
            self.start_up()
        except BaseException as error:  # noqa: BLE001  # fail-stop: whatever it is, the process ends with it
            fail_stop(self.mailbox.name, error)

    def on_receive(self, message: Any) -> None:
        """Handle one batch, then flush."""
        try:
            if isinstance(message, Batch):
                handlers = self.handlers
                for item in message.messages:
                    handlers[type(item)](item)
            else:
                self.handlers[type(message)](message)
            self.flush()
        except BaseException as error:  # noqa: BLE001  # fail-stop: whatever it is, the process ends with it
            fail_stop(self.mailbox.name, error)

    def on_stop(self) -> None:
        """Release what the actor owns. Ends the process when it fails."""
        try:
            self.shut_down()
        except BaseException as error:  # noqa: BLE001  # fail-stop: whatever it is, the process ends with it
            fail_stop(self.mailbox.name, error)

    def start_up(self) -> None:
        """Acquire, on the actor's own thread, what belongs to that thread."""

    def flush(self) -> None:
        """Perform the effects of the batch that was just handled."""

    def shut_down(self) -> None:
        """Release what `start_up` acquired."""


def fail_stop(name: str, error: BaseException) -> NoReturn:
    """End the process at once with the exit code of `error`, after its traceback went to stderr."""
    if isinstance(error, InvariantViolation):
        code = ExitCode.INVARIANT
    elif isinstance(error, RaftActorsError) and error.exit_code is not ExitCode.FAILURE:
        code = error.exit_code
    else:
        code = ExitCode.ACTOR_FAILED
    text = "".join(traceback.format_exception(error))
    # Logging could block on a full pipe or a lock that the failed thread holds; one raw write cannot be waited on.
    with contextlib.suppress(OSError, ValueError):  # A full disk, a closed stream: the process ends all the same.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"raftactors: {name} actor failed\n{text}".encode())
    os._exit(code)
