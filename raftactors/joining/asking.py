"""Asks the other members who they are, as any client does: a HELLO to each client address, a WELCOME back."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import math
import socket
import time
from typing import Any

import zmq

from raftactors.codec.frames import FrameKind, Welcome, decode_welcome, encode_hello
from raftactors.config import Member, NodeConfig, split_address
from raftactors.errors import ConfigError, WireError
from raftactors.transport.client_endpoint import ClientSocket

_log = logging.getLogger("raftactors.node")

_REQUEST = 1
_VERSION = "node"


def ask_members(config: NodeConfig, context: zmq.Context[Any]) -> dict[int, Welcome]:
    """The WELCOME of each other member that answers within `ask_members_ms`, by the id of the member asked.

    Waits only for members at whose address something listens, so that nodes that are started together are not held up
    by each other. Never raises: who cannot be asked, for want of descriptors for example, does not answer.
    """
    others = [member for member in config.members if member.node_id != config.node_id]
    if not others or not config.ask_members_ms:
        return {}
    asking = _Round(config, context)
    try:
        for member in others:
            asking.greet(member)
        asking.run(time.monotonic() + config.ask_members_ms / 1000)
    except (zmq.ZMQError, OSError) as error:
        _log.warning("not all members could be asked for their configuration: %s", error)
    finally:
        asking.close()
    return asking.answers


class _Round:
    """One HELLO to each member. A plain connection beside it tells at once where nobody listens."""

    def __init__(self, config: NodeConfig, context: zmq.Context[Any]) -> None:
        self.answers: dict[int, Welcome] = {}
        self._config = config
        self._context = context
        self._links: dict[int, ClientSocket] = {}
        self._probes: dict[int, socket.socket] = {}
        self._greeted: set[int] = set()

    def greet(self, member: Member) -> None:
        """Begin with one member. What cannot be connected to does not answer."""
        with contextlib.suppress(ConfigError):
            self._links[member.node_id] = ClientSocket(
                member.client_address, context=self._context, limits=self._config.limits
            )
            self._probe(member)

    def run(self, deadline_s: float) -> None:
        """Take answers until everybody has answered who can, or until the deadline."""
        while self._links and (remaining_s := deadline_s - time.monotonic()) > 0:
            poller = zmq.Poller()
            for node_id, link in self._links.items():
                poller.register(link.socket, zmq.POLLIN if node_id in self._greeted else zmq.POLLOUT)
            for probe in self._probes.values():
                poller.register(probe.fileno(), zmq.POLLOUT)
            ready = dict(poller.poll(math.ceil(remaining_s * 1000)))
            for node_id, probe in list(self._probes.items()):
                if probe.fileno() in ready:
                    self._take_probe(node_id, probe)
            for node_id, link in list(self._links.items()):
                if link.socket in ready:
                    self._talk(node_id, link)

    def close(self) -> None:
        """Release every socket."""
        for node_id in list(self._links):
            self._forget(node_id)

    def _probe(self, member: Member) -> None:
        host, port = split_address("client_address", member.client_address)
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            return  # A name would have to be looked up, which may take long.
        probe = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        self._probes[member.node_id] = probe
        probe.setblocking(False)
        if probe.connect_ex((str(address), port)) not in (0, errno.EINPROGRESS):
            self._forget(member.node_id)

    def _take_probe(self, node_id: int, probe: socket.socket) -> None:
        refused = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        self._probes.pop(node_id).close()
        if refused and node_id not in self._greeted:
            self._forget(node_id)

    def _talk(self, node_id: int, link: ClientSocket) -> None:
        if node_id not in self._greeted:
            if link.send(FrameKind.HELLO, encode_hello(_REQUEST, _VERSION)):
                self._greeted.add(node_id)
            return
        for envelope, body in link.receive():
            if envelope.kind == FrameKind.WELCOME:
                with contextlib.suppress(WireError):
                    self.answers[node_id] = decode_welcome(body)
                self._forget(node_id)
                return

    def _forget(self, node_id: int) -> None:
        self._links.pop(node_id).close()
        if (probe := self._probes.pop(node_id, None)) is not None:
            probe.close()
