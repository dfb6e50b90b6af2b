"""Raft as a pure state machine: no I/O, no clock, no thread, no chance of its own. `RawNode` is the door."""
