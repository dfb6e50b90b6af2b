"""The errors of requests that end without a result: what is known of them, and the way out."""

from __future__ import annotations

from raftactors.client.route import Route
from raftactors.codec.replies import RejectedReply, TooLargeReply
from raftactors.errors import (
    ClusterUnreachableError,
    CommandTooLargeError,
    OverloadedError,
    RejectedError,
    RequestError,
    UnknownOutcomeError,
)


def overdue(route: Route, *, sent: bool, is_query: bool, busy_ms: int) -> RequestError:
    """The error of a request whose deadline is over; `busy_ms` is what a busy cluster last told to wait, or 0.

    Only a command that was sent may have been executed; everything else is known not to have happened.
    """
    if sent and not is_query:
        text = "no answer within the deadline: the command was sent and may or may not have been executed; nodes: "
        return UnknownOutcomeError(text + route.describe(), leader_id=route.leader_id)
    if busy_ms:
        text = f"the cluster was busy until the deadline; try again in {busy_ms} ms; nothing happened"
        return OverloadedError(text, retry_after_ms=busy_ms, leader_id=route.leader_id)
    what = "the query changed nothing" if is_query else "the command was never sent, so it did not happen"
    if route.ready is None:
        text = f"no node of the cluster answered within the deadline; {what}; tried: "
    else:
        text = f"the cluster answers but gave no result within the deadline, has it a leader?; {what}; nodes: "
    return ClusterUnreachableError(text + route.describe(), leader_id=route.leader_id)


def rejection(reply: RejectedReply | TooLargeReply) -> RequestError:
    """The error of a frame that a node refused for good."""
    kind = CommandTooLargeError if isinstance(reply, TooLargeReply) else RejectedError
    return kind(reply.text, leader_id=reply.leader_id)


def too_large(size: int, command_bytes_max: int) -> CommandTooLargeError:
    """The error of a command that no node would take."""
    return CommandTooLargeError(
        f"the command has {size} bytes packed, command_bytes_max is {command_bytes_max}; split it, or raise the limit "
        "in the configuration of the nodes; it was not sent"
    )
