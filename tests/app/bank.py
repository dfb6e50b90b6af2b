"""A small application with every kind of method."""

from __future__ import annotations

from raftactors.app import Application, Context, command, query


class Bank(Application):
    """Accounts that may not be overdrawn."""

    def __init__(self) -> None:
        self.balances: dict[str, int] = {}
        self.journal: list[str] = []

    @command
    def deposit(self, who: str, amount: int) -> int:
        self.balances[who] = self.balances.get(who, 0) + amount
        return self.balances[who]

    @command
    def withdraw(self, who: str, amount: int = 1) -> int:
        self.journal.append(f"withdraw {who}")  # What a failed command leaves behind.
        if self.balances.get(who, 0) < amount:
            raise ValueError(f"{who} has {self.balances.get(who, 0)}")
        self.balances[who] -= amount
        return self.balances[who]

    @command
    def draw(self, ctx: Context, label: str) -> list[object]:
        return [label, ctx.index, ctx.ordinal, ctx.now_ms, ctx.session, ctx.random.randrange(2**32)]

    @command
    def fail_with_address(self) -> None:
        raise RuntimeError(f"{object()!r}")

    @command
    def give_back(self, what: str) -> object:
        return {"set": {1}, "huge": 2**70, "long": b"x" * 200_000}[what]

    @command
    def run_out_of_memory(self) -> None:
        raise MemoryError

    @query
    def balance(self, who: str) -> int:
        return self.balances.get(who, 0)

    @query
    def clock(self, ctx: Context) -> list[int]:
        return [ctx.index, ctx.now_ms]
