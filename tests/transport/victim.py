"""A listener in a process of its own, which libzmq may abort: `python victim.py KIND MARK`.

Prints its address, waits for a line on standard input, takes all that came, prints how much, and waits for the next.
"""

from __future__ import annotations

import sys
from typing import Any

import zmq

from raftactors.config import Limits
from raftactors.errors import WireError
from raftactors.transport.allowance import client_allowance, peer_allowance
from raftactors.transport.listener import Listener
from raftactors.transport.options import client_endpoint_options, peer_listener_options


def main(kind: str, mark: str) -> None:
    limits = Limits()
    of_clients = kind == "clients"
    options = client_endpoint_options(limits) if of_clients else peer_listener_options(limits)
    if mark:
        options = options | {zmq.RCVHWM: int(mark)}
    allowance = client_allowance(limits) if of_clients else peer_allowance(limits)
    with zmq.Context[Any]() as context:
        listener = Listener(context, name="address", address="127.0.0.1:0", options=options, allowance=allowance)
        print(listener.address, flush=True)
        for _ in sys.stdin:
            print(take_all(listener), flush=True)
        listener.close()


def take_all(listener: Listener) -> int:
    count = 0
    while True:
        try:
            if listener.take() is None:
                return count
        except WireError:
            pass
        count += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
