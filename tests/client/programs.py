"""Programs of their own that use a client: what happens to a whole process cannot be seen inside this one."""

from __future__ import annotations

import subprocess
import sys
import textwrap

TIMEOUT_S = 60

_BEGIN = """
import gc, os, sys, threading, time
from raftactors.client import Client, ClientOptions
from raftactors.errors import RaftActorsError
ADDRESS = sys.argv[1]
"""


def run_program(body: str, address: str) -> str:
    """Run `body` with warnings as errors; returns what it printed. It must end with 0 and complain about nothing."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", _BEGIN + textwrap.dedent(body), address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
