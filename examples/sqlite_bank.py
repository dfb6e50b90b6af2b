"""A bank that keeps its accounts in SQLite: an application with its own data, and the few methods that takes.

The node gives every replica a folder of its own. Entries are applied in batches; each batch is one transaction, and in
the same transaction the node's rows are written: how far the log is applied, and the results that clients may ask for
again. So a node that is killed at any instant finds, when it starts again, accounts and applied index that belong
together, goes on behind them, and answers a repeated command from the rows instead of executing it a second time.

`synchronous=NORMAL` is enough: SQLite then keeps transactions whole and in order, but may forget the last ones in a
power cut. What it forgets stands in the Raft log, which was synced before anything was applied, and is applied again.
`FULL` would pay for a second sync a batch and give nothing. `OFF` is not enough: a power cut may then leave a database
that is neither old nor new.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from raftactors import FreezableOnDiskApplication, LocalCluster, command, query

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (owner TEXT PRIMARY KEY, balance INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS node_rows (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


class SqliteBank(FreezableOnDiskApplication):
    """Accounts with whole amounts, by the owner's name; an account is opened by the first deposit."""

    def __init__(self) -> None:
        self._path = Path()
        self._database: sqlite3.Connection | None = None
        self._frozen: sqlite3.Connection | None = None

    # --- what clients call ---

    @command
    def deposit(self, owner: str, amount: int) -> int:
        """Pay in; returns the new balance."""
        _check_amount(amount)
        return self._set(owner, self.balance(owner) + amount)

    @command
    def transfer(self, payer: str, payee: str, amount: int) -> None:
        """Move an amount between accounts: both change, or neither. Raises ValueError if the payer holds less."""
        _check_amount(amount)
        balance = self.balance(payer)
        if balance < amount:
            raise ValueError(f"{payer} has {balance}, which is less than {amount}")
        self._set(payer, balance - amount)
        self._set(payee, self.balance(payee) + amount)

    @query
    def balance(self, owner: str) -> int:
        """What an account holds, 0 if it was never opened."""
        row = self._sql.execute("SELECT balance FROM accounts WHERE owner = ?", (owner,)).fetchone()
        return 0 if row is None else row[0]

    @query
    def total(self) -> int:
        """What all accounts hold together; transfers leave it as it is."""
        return sum(balance for (balance,) in self._sql.execute("SELECT balance FROM accounts"))

    # --- what the node calls ---

    def open(self, folder: Path) -> Mapping[bytes, bytes]:
        """Open the database and return the node's rows."""
        self._path = folder / "bank.sqlite3"
        self._database = self._connect()
        self._sql.execute("PRAGMA journal_mode = WAL")
        self._sql.execute("PRAGMA synchronous = NORMAL")
        self._sql.executescript(_SCHEMA)
        return dict(self._sql.execute("SELECT key, value FROM node_rows"))

    def begin(self) -> None:
        """Begin the transaction of a batch."""
        self._sql.execute("BEGIN IMMEDIATE")

    def commit(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Write the node's rows beside the accounts, and end the transaction."""
        removed = [(key,) for key, value in rows.items() if value is None]
        self._sql.executemany("DELETE FROM node_rows WHERE key = ?", removed)
        put = [(key, value) for key, value in rows.items() if value is not None]
        self._sql.executemany("INSERT OR REPLACE INTO node_rows VALUES (?, ?)", put)
        self._sql.execute("COMMIT")

    def close(self) -> None:
        """Close the database; SQLite rolls an open transaction back."""
        self.thaw()
        if self._database is not None:
            self._database.close()
            self._database = None

    def pieces(self) -> Iterator[object]:
        """[owner, balance] of every account, a thousand at a time."""
        return _pieces(self._sql)

    def freeze(self) -> Iterator[object]:
        """The same from a connection of its own: it goes on seeing what is committed now, whatever is committed later.

        That keeps the database's write-ahead log from being folded into it until `thaw`.
        """
        self._frozen = self._connect()
        self._frozen.execute("BEGIN")
        self._frozen.execute("SELECT owner FROM accounts LIMIT 1").fetchall()  # Only a read begins the transaction.
        return _pieces(self._frozen)

    def thaw(self) -> None:
        """Close that connection."""
        if self._frozen is not None:
            self._frozen.close()
            self._frozen = None

    def restore_pieces(self, pieces: Iterable[Any]) -> None:
        """Become what the pieces describe."""
        self._sql.execute("DELETE FROM accounts")
        for accounts in pieces:
            self._sql.executemany("INSERT INTO accounts VALUES (?, ?)", accounts)

    def readable_state(self) -> object:
        """Balances by owner, as `raftactors replay` shows them."""
        return dict(self._sql.execute("SELECT owner, balance FROM accounts ORDER BY owner"))

    def is_store_error(self, error: Exception) -> bool:
        """No statement here fails because of its arguments, so whatever SQLite raises comes from the disk."""
        return isinstance(error, OSError | sqlite3.Error)

    # --- inside ---

    def _connect(self) -> sqlite3.Connection:
        # Opened on one thread and used on another one, but never on two at once.
        return sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)

    @property
    def _sql(self) -> sqlite3.Connection:
        if self._database is None:
            raise RuntimeError("the bank has no database yet; call open() first")
        return self._database

    def _set(self, owner: str, balance: int) -> int:
        # The sum was made in Python: beyond 64 bits it is refused here, where SQLite would go over to floats.
        self._sql.execute("INSERT OR REPLACE INTO accounts VALUES (?, ?)", (owner, balance))
        return balance


def _pieces(database: sqlite3.Connection) -> Iterator[object]:
    accounts = database.execute("SELECT owner, balance FROM accounts ORDER BY owner")
    while rows := accounts.fetchmany(1_000):
        yield [list(row) for row in rows]


def _check_amount(amount: int) -> None:
    if amount <= 0:
        raise ValueError(f"the amount is {amount}; it must be positive")


def main() -> None:
    """Run the bank on three processes, and kill and restart the leader between two payments."""
    with LocalCluster(3, SqliteBank) as cluster, cluster.client() as client:
        bank = client.proxy(SqliteBank)
        bank.deposit("ann", 100).get()
        leader = cluster.wait_leader()
        cluster.kill(leader)
        bank.transfer("ann", "bob", 30).get()
        cluster.restart(leader)
        print("ann", bank.balance("ann").get(), "bob", bank.balance("bob").get(), "total", bank.total().get())


if __name__ == "__main__":
    main()
