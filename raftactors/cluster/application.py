"""From a class in the caller's hands to something that a node process can import."""

from __future__ import annotations

import site
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

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

    A module named by text is searched in `search_in` first, then where this process would look.
    Raises ApplicationUnknownError for a class that another process cannot import: one made inside a function or a
    class, or in an interactive interpreter.
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
    if module is None or file is None or not Path(file).is_file():
        raise ApplicationUnknownError(
            f"{name} is defined in {application.__module__}, which is no file, so no other process can import it; "
            "write the class to a module of its own"
        )
    if getattr(module, name, None) is not application:
        raise ApplicationUnknownError(
            f"{application.__module__} has another {name} at its top level; give the application class one name"
        )
    return _refer_to_class(module, name, Path(file).resolve())


def _refer_to_text(spec: str, search_in: tuple[str, ...]) -> ApplicationReference:
    where, _, name = spec.rpartition(":")
    if not where or not name.isidentifier():
        raise ApplicationUnknownError(f"application is {spec!r}; write it as MODULE:CLASS or FILE.py:CLASS")
    if not where.endswith(".py"):
        return ApplicationReference(spec=spec, import_paths=(*search_in, *_search_paths()))
    file = Path(where).resolve()
    if not file.is_file():
        raise ApplicationUnknownError(
            f"{where} does not exist; the application is written as MODULE:CLASS or FILE.py:CLASS"
        )
    return ApplicationReference(spec=f"{file}:{name}", import_paths=(str(file.parent),))


def _refer_to_class(module: ModuleType, name: str, file: Path) -> ApplicationReference:
    module_spec = getattr(module, "__spec__", None)
    module_name = module_spec.name if module_spec is not None else module.__name__
    parts = module_name.split(".")
    # The folder that makes `import a.b.c` find this very file; a package's module is its __init__.py.
    depth = len(parts) if file.stem == "__init__" else len(parts) - 1
    root = file.parents[min(depth, len(file.parents) - 1)]
    importable = module_name != "__main__" and root.joinpath(*parts).with_suffix(".py") == file
    package = module_name != "__main__" and root.joinpath(*parts, "__init__.py") == file
    if importable or package:
        installed = parts[0] == "raftactors" or str(root) in _usual_paths()
        return ApplicationReference(spec=f"{module_name}:{name}", import_paths=() if installed else (str(root),))
    return ApplicationReference(spec=f"{file}:{name}", import_paths=(str(file.parent),))


def _search_paths() -> tuple[str, ...]:
    """What this interpreter searches beyond what every interpreter of the same environment searches."""
    usual = _usual_paths()
    paths = dict.fromkeys(str(Path(entry or ".").resolve()) for entry in sys.path if Path(entry or ".").is_dir())
    return tuple(path for path in paths if path not in usual)


def _usual_paths() -> set[str]:
    folders = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    folders.append(sysconfig.get_config_var("DESTSHARED") or "")
    return {str(Path(folder).resolve()) for folder in folders if folder} | {str(Path(sys.prefix, "bin").resolve())}
