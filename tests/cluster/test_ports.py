from __future__ import annotations

import select
import signal
import socket
import subprocess
import sys

import pytest

from raftactors.cluster.ports import hold_port
from raftactors.errors import AddressInUseError, ConfigError

LISTENER = """
import sys, zmq
router = zmq.Context.instance().socket(zmq.ROUTER)
router.bind("tcp://" + sys.argv[1])
print("bound", flush=True)
router.recv()
"""


def listen(address: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", LISTENER, address], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert select.select([child.stdout], [], [], 20)[0]
    assert child.stdout.readline() == b"bound\n"
    return child


def test_libzmq_binds_a_held_port_again_and_again_after_kill() -> None:
    held = hold_port()
    for _ in range(3):
        child = listen(held.address)
        try:
            # A connection that is open when the listener dies leaves the port in TIME_WAIT or FIN_WAIT: rebind anyway.
            with socket.create_connection((held.host, held.port), timeout=10):
                child.send_signal(signal.SIGKILL)
                child.wait(10)
        finally:
            child.kill()
            child.communicate(timeout=10)
    held.close()


def test_nobody_else_listens_on_a_held_port_that_is_served() -> None:
    held = hold_port()
    child = listen(held.address)
    try:
        with pytest.raises(AddressInUseError, match=f"{held.address} is in use"):
            hold_port(held.port)
    finally:
        child.kill()
        child.communicate(timeout=10)
        held.close()


def test_the_kernel_gives_a_held_port_to_nobody() -> None:
    """Takes ports from the kernel until many of its range are gone: none of them is the held one."""
    held = hold_port()
    others = [hold_port() for _ in range(400)]
    ports = [other.port for other in others]
    for other in others:
        other.close()
    assert held.port not in ports
    assert len(set(ports)) == len(ports)
    held.close()


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="port is 70000; it must be a whole number from 0 to 65535"):
        hold_port(70_000)
