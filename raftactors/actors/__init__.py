"""The actors of one node process: mailboxes in, effects out. No Raft rule lives here.

Each actor is a pykka actor on a thread of its own. Actors only tell; a message goes into a bounded lane of the other's
mailbox, and an actor takes everything that waits as one batch.
"""
