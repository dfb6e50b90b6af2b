"""Every mutant, by name. The modules below register theirs when they are imported."""

from __future__ import annotations

from tests.simulation import election_mutants, reading_mutants, replication_mutants, storage_mutants
from tests.simulation.mutant import MUTANTS, Mutant

SOURCES = (election_mutants, replication_mutants, reading_mutants, storage_mutants)

__all__ = ["MUTANTS", "SOURCES", "Mutant"]
