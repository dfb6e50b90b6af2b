"""From a class in the caller's hands to something that a node process can import."""

from __future__ import annotations

import builtins
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from raftactors.cluster.search_paths import absolute_entries, is_found_by_finder, own_search_paths, usual_paths, zip_of
from raftactors.cluster.working_folder import absolute
from raftactors.config import application_identity
from raftactors.errors import ApplicationUnknownError


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationReference:
    """`spec` is `MODULE:CLASS` or `/absolute/file.py:CLASS`; `import_paths` is what `sys.path` needs for it."""

    spec: str
    import_paths: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """What stays equal when the same class is named in another way."""
        return application_identity(self.spec)


def refer_to(application: str | type, *, search_in: tuple[str, ...] = ()) -> ApplicationReference:
    """Find how a node process imports `application`, a class or the text `MODULE:CLASS` or `FILE.py:CLASS`.

    A module named by text is searched in `search_in` first, then where this process would look. Whatever the
    application imports is searched there too, also after this process has changed its working folder.
    Raises ApplicationUnknownError for a class that another process cannot import: one made inside a function or a
    class, or in a notebook or an interactive interpreter. Raises ConfigError for a relative path in a working folder
    that has been deleted.
    """
    if isinstance(application, str):
        return _refer_to_text(application, search_in)
    name = application.__qualname__
    if "." in name:
        raise ApplicationUnknownError(
            f"{name} is defined inside a function or class, where no other process can import it; "
            "move it to the top level of a module"
        )
    module = sys.modules.get(application.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None or not (os.path.isfile(file) or zip_of(file)):
        raise ApplicationUnknownError(
            f"{name} is defined in {application.__module__}, which is no file, so no other process can import it; "
            f"{_way_to_a_file(name)}"
        )
    if getattr(module, name, None) is not application:
        raise ApplicationUnknownError(
            f"{application.__module__} has another {name} at its top level; give the application class one name"
        )
    return _refer_to_class(module, name, absolute(file).resolve())


def _way_to_a_file(name: str) -> str:
    file, module = f"{name.lower()}.py", name.lower()
    if "get_ipython" in vars(builtins) or hasattr(sys.modules.get("__main__"), "get_ipython"):
        return (
            f"in a notebook, begin the cell of the class with `%%writefile {file}`, run it, and write "
            f"`from {module} import {name}` in the next one"
        )
    return f"write the class to a file, such as {file}, and import it from there: `from {module} import {name}`"


def _refer_to_text(spec: str, search_in: tuple[str, ...]) -> ApplicationReference:
    where, _, name = spec.rpartition(":")
    if not where or not name.isidentifier():
        raise ApplicationUnknownError(f"application is {spec!r}; write it as MODULE:CLASS or FILE.py:CLASS")
    if not where.endswith(".py"):
        import_paths = tuple(dict.fromkeys([*absolute_entries(search_in), *own_search_paths()]))
        return ApplicationReference(spec=spec, import_paths=import_paths)
    file = absolute(where).resolve()
    if not file.is_file():
        raise ApplicationUnknownError(
            f"{where} does not exist; the application is written as MODULE:CLASS or FILE.py:CLASS"
        )
    return ApplicationReference(spec=f"{file}:{name}", import_paths=_including(str(file.parent)))


def _refer_to_class(module: ModuleType, name: str, file: Path) -> ApplicationReference:
    module_spec = getattr(module, "__spec__", None)
    module_name = module_spec.name if module_spec is not None else module.__name__
    parts = module_name.split(".")
    if parts[0] == "raftactors":
        return ApplicationReference(spec=f"{module_name}:{name}")
    if module_name != "__main__":
        root = _root_of(parts, file)
        if root is not None:
            return ApplicationReference(spec=f"{module_name}:{name}", import_paths=_including(str(root)))
        if is_found_by_finder(parts[0]):
            return ApplicationReference(spec=f"{module_name}:{name}", import_paths=own_search_paths())
    archive = zip_of(file)
    if not file.is_file() and archive is not None:
        raise ApplicationUnknownError(
            f"{name} is defined in {module_name} of {archive}, which cannot be imported by name; "
            "move it to a module of its own in there"
        )
    return ApplicationReference(spec=f"{file}:{name}", import_paths=_including(str(file.parent)))


def _root_of(parts: list[str], file: Path) -> Path | None:
    """The folder or zip file that makes `import a.b.c` find this very file; a package's module is its __init__.py."""
    stem = file.name.partition(".")[0]
    inner = [*parts, "__init__"] if stem == "__init__" else parts
    if len(inner) > len(file.parents) or file.with_name(stem) != file.parents[len(inner) - 1].joinpath(*inner):
        return None
    return file.parents[len(inner) - 1]


def _including(root: str) -> tuple[str, ...]:
    """Where this process would look, with `root`, which is put first unless it is there under one of its names."""
    paths = own_search_paths()
    if root in usual_paths() or any(os.path.realpath(path) == root for path in paths):
        return paths
    return (root, *paths)
