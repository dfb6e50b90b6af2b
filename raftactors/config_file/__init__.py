"""The configuration of a node that is run by hand: a commented TOML file, with the environment and flags on top."""

from raftactors.config_file.keys import ENVIRONMENT_PREFIX, KEYS, variable_of
from raftactors.config_file.members import parse_member
from raftactors.config_file.reading import Effective, load
from raftactors.config_file.writing import render_effective, render_new

__all__ = [
    "ENVIRONMENT_PREFIX",
    "KEYS",
    "Effective",
    "load",
    "parse_member",
    "render_effective",
    "render_new",
    "variable_of",
]
