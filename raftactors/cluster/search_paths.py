"""Where this program finds modules and a node of the same environment would not, unless it is told."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from pathlib import Path

from raftactors.cluster.working_folder import current_folder


def own_search_paths() -> tuple[str, ...]:
    """The entries of `sys.path` beyond the usual ones, absolute and in their order: folders and zip files.

    A relative entry starts from the present working folder, as it does for an import made now.
    """
    usual = usual_paths()
    return tuple(path for path in absolute_entries(sys.path) if os.path.realpath(path) not in usual)


def absolute_entries(entries: Iterable[object]) -> tuple[str, ...]:
    """Entries of a search path made absolute, each once; without those that name nothing modules can be in."""
    here = current_folder()
    found: dict[str, None] = {}
    for entry in entries:
        if not isinstance(entry, str) or (here is None and not os.path.isabs(entry)):
            continue
        path = os.path.normpath(os.path.join(here or "/", entry))
        if os.path.isdir(path) or zip_of(path) is not None:
            found[path] = None
    return tuple(found)


def usual_paths() -> frozenset[str]:
    """What every interpreter of this environment searches, links resolved."""
    version = sys.version_info
    folders = [*sysconfig.get_paths().values(), *site.getsitepackages(), sysconfig.get_config_var("DESTSHARED") or ""]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    folders.append(os.path.join(sys.base_prefix, sys.platlibdir, f"python{version.major}{version.minor}.zip"))
    folders.append(os.path.join(sys.prefix, "bin"))
    return frozenset(os.path.realpath(folder) for folder in folders if folder)


def zip_of(path: str | Path) -> Path | None:
    """The zip file that the path names or leads into, if it does."""
    for place in (Path(path), *Path(path).parents):
        if place.is_file():
            return place if zipfile.is_zipfile(place) else None
        if place.is_dir():
            return None
    return None


def is_found_by_finder(package: str) -> bool:
    """Whether an editable install in this environment maps the name of this top-level package to its folder."""
    present: str | None = getattr(sys.modules.get(package), "__file__", None)
    for finder in sys.meta_path:
        if present and isinstance(finder, type) and "editable" in finder.__module__ and hasattr(finder, "find_spec"):
            origin: str | None = getattr(finder.find_spec(package, None), "origin", None)
            if origin and os.path.realpath(origin) == os.path.realpath(present):
                return True
    return False
