"""`python -m raftactors.node CONFIG.json`."""

from __future__ import annotations

from raftactors.node.serving import main

if __name__ == "__main__":
    raise SystemExit(main())
