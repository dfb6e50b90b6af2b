"""The mailboxes of one node, one for each actor."""

from __future__ import annotations

from typing import NamedTuple

from raftactors.actors.consensus import Neighbours
from raftactors.actors.mailbox import Mailbox, Waiter

APPLICATION_BATCH_MAX = 64
"""Pieces of committed work the application takes in one turn; each is bounded by `committed_bytes_per_ready_max`."""


class Mailboxes(NamedTuple):
    """Named after the actors that take from them."""

    ticker: Mailbox
    consensus: Mailbox
    storage: Mailbox
    transport: Mailbox
    gateway: Mailbox
    application: Mailbox
    monitor: Mailbox
    snapshot_writer: Mailbox
    snapshot_transfer: Mailbox
    scrubber: Mailbox
    guard: Mailbox

    def neighbours(self) -> Neighbours:
        """Those that consensus tells."""
        return Neighbours(*(getattr(self, name) for name in Neighbours._fields))


def make_mailboxes(
    messages_max: int, *, transport: Waiter, gateway: Waiter, snapshot_transfer: Waiter, guard: Waiter
) -> Mailboxes:
    """Mailboxes of at most `messages_max` messages a lane; four actors wait for their sockets as well."""
    return Mailboxes(
        ticker=Mailbox("ticker", messages_max=messages_max),
        consensus=Mailbox("consensus", messages_max=messages_max),
        storage=Mailbox("storage", messages_max=messages_max),
        transport=Mailbox("transport", messages_max=messages_max, waiter=transport),
        gateway=Mailbox("gateway", messages_max=messages_max, waiter=gateway),
        application=Mailbox("application", messages_max=messages_max, batch_max=APPLICATION_BATCH_MAX),
        monitor=Mailbox("monitor", messages_max=messages_max),
        snapshot_writer=Mailbox("snapshot_writer", messages_max=messages_max),
        snapshot_transfer=Mailbox("snapshot_transfer", messages_max=messages_max, waiter=snapshot_transfer),
        scrubber=Mailbox("scrubber", messages_max=messages_max),
        guard=Mailbox("guard", messages_max=messages_max, waiter=guard),
    )
