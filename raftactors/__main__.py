"""`python -m raftactors` is the `raftactors` command."""

from __future__ import annotations

from raftactors.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
