"""What a run has been through: faults that struck, kinds of messages met in each role, changes of role."""

from __future__ import annotations

from collections import Counter

from raftactors.core.messages import MessageType
from raftactors.core.types import Role


class Coverage:
    """Counters by name. Steps are named `step ROLE KIND`, changes of role `role FROM TO`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._steps: Counter[tuple[Role, MessageType]] = Counter()

    def count(self, name: str) -> None:
        """Something happened."""
        self.counts[name] += 1

    def step(self, role: Role, kind: MessageType) -> None:
        """A node met a message."""
        self._steps[role, kind] += 1

    def role(self, before: Role, after: Role) -> None:
        """A node changed its role."""
        if before is not after:
            self.counts[f"role {before.value} {after.value}"] += 1

    def totals(self) -> Counter[str]:
        """Everything, by name."""
        totals = self.counts.copy()
        for (role, kind), number in self._steps.items():
            totals[f"step {role.value} {kind.name}"] = number
        return totals
