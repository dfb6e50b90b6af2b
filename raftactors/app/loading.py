"""From `MODULE:CLASS` to a class that a node can host."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from raftactors.app.application import Application, methods_of
from raftactors.errors import ApplicationUnknownError, ConfigError


def load_application(spec: str, import_paths: Sequence[str] = ()) -> type[Application]:
    """Import the application that `spec` names as `MODULE:CLASS` or `FILE.py:CLASS`, and check it.

    `import_paths` go in front of `sys.path` and stay there, because an application may import later too. Raises
    ApplicationUnknownError: the text names what is missing or what failed inside the module, and the way out.
    """
    where, _, name = spec.rpartition(":")
    if not where or not name.isidentifier():
        raise ApplicationUnknownError(f"application is {spec!r}; write it as MODULE:CLASS or FILE.py:CLASS")
    sys.path[:0] = [path for path in dict.fromkeys(import_paths) if path not in sys.path]
    module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    application = getattr(module, name, None)
    if application is None:
        raise ApplicationUnknownError(f"{where} has no class {name}; it has {_offered(module)}")
    if not (isinstance(application, type) and issubclass(application, Application)):
        raise ApplicationUnknownError(f"{spec} is no Application; derive the class from raftactors.Application")
    try:
        table = methods_of(application)
    except ConfigError as error:
        raise ApplicationUnknownError(f"{spec} cannot be hosted: {error}") from error
    if not table:
        raise ApplicationUnknownError(f"{spec} has no method; mark some with @command or @query")
    missing = sorted(getattr(application, "__abstractmethods__", ()))
    if missing:
        raise ApplicationUnknownError(f"{spec} cannot be made: it does not define {', '.join(missing)}")
    needed = [
        parameter.name
        for parameter in inspect.signature(application).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    ]
    if needed:
        raise ApplicationUnknownError(f"{spec} needs {needed[0]!r} to be made; nodes make it without arguments")
    return application


def _import_module(where: str) -> ModuleType:
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is not None and (where == error.name or where.startswith(f"{error.name}.")):
            raise ApplicationUnknownError(
                f"there is no module {error.name!r}; put its folder on PYTHONPATH or into import_paths, or install it"
            ) from error
        raise _broken(where, error) from error
    except Exception as error:
        raise _broken(where, error) from error


def _import_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise ApplicationUnknownError(
            f"there is no file {file}; write the application as MODULE:CLASS or FILE.py:CLASS"
        )
    # Under its own name the module is found again by its parts, unless that name is taken by another one.
    name = file.stem
    present = sys.modules.get(name)
    if present is not None:
        if getattr(present, "__file__", None) == str(file):
            return present
        name = f"raftactors_application_{name}"
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise ApplicationUnknownError(f"{file} cannot be imported as a Python module")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _broken(str(file), error) from error
    return module


def _broken(where: str, error: Exception) -> ApplicationUnknownError:
    """The error with the line of the author's file that failed, as far as there is one."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = f" at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last is not None else ""
    if isinstance(error, SyntaxError):
        place = f" at {error.filename}:{error.lineno}"
    return ApplicationUnknownError(f"{where} fails while it is imported: {type(error).__name__}: {error}{place}")


def _offered(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Application) and value is not Application
    ]
    return ", ".join(sorted(names)) or "no Application at all"
