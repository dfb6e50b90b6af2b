"""The one binary encoding of the project: entries, Raft messages, client frames and replies, for wire and disk."""
