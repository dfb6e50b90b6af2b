"""A bank as a replicated actor: an application of your own, and the few lines that run it on three processes.

`Bank` is a plain class, so it is tested without any cluster. Marked with `@command`, a method changes the state: it is
ordered by Raft and executed exactly once on every replica. Marked with `@query`, it only reads. Commands must be
deterministic, and what they raise goes back to the caller; a command that refuses must refuse before it changes
anything. The attributes are the state, and may hold what msgpack can: None, bool, int, float, str, bytes, list, dict.
"""

from __future__ import annotations

from raftactors import Application, LocalCluster, command, query
from raftactors.errors import ApplicationError


class Bank(Application):
    """Accounts with whole amounts, by the owner's name; an account is opened by the first deposit."""

    def __init__(self) -> None:
        self.accounts: dict[str, int] = {}

    @command
    def deposit(self, owner: str, amount: int) -> int:
        """Pay in; returns the new balance."""
        _check_amount(amount)
        self.accounts[owner] = self.accounts.get(owner, 0) + amount
        return self.accounts[owner]

    @command
    def withdraw(self, owner: str, amount: int) -> int:
        """Pay out; returns the new balance. Raises ValueError if the account holds less."""
        _check_amount(amount)
        self._check_funds(owner, amount)
        self.accounts[owner] -= amount
        return self.accounts[owner]

    @command
    def transfer(self, payer: str, payee: str, amount: int) -> None:
        """Move an amount between accounts: both change, or neither. Raises ValueError if the payer holds less."""
        _check_amount(amount)
        self._check_funds(payer, amount)
        self.accounts[payer] -= amount
        self.accounts[payee] = self.accounts.get(payee, 0) + amount

    @query
    def balance(self, owner: str) -> int:
        """What an account holds, 0 if it was never opened."""
        return self.accounts.get(owner, 0)

    @query
    def total(self) -> int:
        """What all accounts hold together; transfers leave it as it is."""
        return sum(self.accounts.values())

    def _check_funds(self, owner: str, amount: int) -> None:
        balance = self.accounts.get(owner, 0)
        if balance < amount:
            raise ValueError(f"{owner} has {balance}, which is less than {amount}")


def _check_amount(amount: int) -> None:
    if amount <= 0:
        raise ValueError(f"the amount is {amount}; it must be positive")


def main() -> None:
    """Run the bank on three processes and move some money."""
    with LocalCluster(3, Bank) as cluster, cluster.client() as client:
        bank = client.proxy(Bank)
        bank.deposit("ann", 100).get()
        bank.transfer("ann", "bob", 30).get()
        print("ann", bank.balance("ann").get(), "bob", bank.balance("bob").get())
        try:
            bank.withdraw("bob", 31).get()
        except ApplicationError as error:
            print("refused:", error.message)
        print("total", bank.total().get())


if __name__ == "__main__":
    main()
