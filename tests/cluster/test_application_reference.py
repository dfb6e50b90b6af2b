from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from raftactors.app.kv import KeyValue
from raftactors.app.loading import load_application
from raftactors.cluster.application import ApplicationReference, refer_to
from raftactors.errors import ApplicationUnknownError

BANK = """
from raftactors.app.application import Application, command

class Bank(Application):
    @command
    def deposit(self, amount: int) -> int:
        return amount
"""

SCRIPT = (
    BANK
    + """
if __name__ == "__main__":
    from raftactors.cluster.application import refer_to
    reference = refer_to(Bank)
    print(reference.spec, *reference.import_paths, sep="\\n")
"""
)


class AtTopLevel(KeyValue):
    """An application of this test module."""


def run(*arguments: str, cwd: Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def loads(reference: ApplicationReference, cwd: Path) -> str:
    """Name of the class that a fresh interpreter, as a node is one, gets from the reference."""
    program = (
        "import sys; from raftactors.app.loading import load_application; "
        "print(load_application(sys.argv[1], sys.argv[2:]).__name__)"
    )
    done = run("-P", "-c", program, reference.spec, *reference.import_paths, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_installed_class_needs_no_path() -> None:
    assert refer_to(KeyValue) == ApplicationReference(spec="raftactors.app.kv:KeyValue", import_paths=())


def test_a_class_of_a_module_beside_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "till.py").write_text(BANK)
    monkeypatch.syspath_prepend(tmp_path)
    reference = refer_to(importlib.import_module("till").Bank)
    monkeypatch.delitem(sys.modules, "till")
    assert reference.spec == "till:Bank" and reference.import_paths[0] == str(tmp_path)
    assert loads(reference, Path("/")) == "Bank"


def test_a_class_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "firm" / "branch").mkdir(parents=True)
    (tmp_path / "firm" / "__init__.py").write_text("")
    (tmp_path / "firm" / "branch" / "__init__.py").write_text(BANK)
    monkeypatch.syspath_prepend(tmp_path)
    reference = refer_to(importlib.import_module("firm.branch").Bank)
    for name in ("firm.branch", "firm"):
        monkeypatch.delitem(sys.modules, name)
    assert reference.spec == "firm.branch:Bank" and reference.import_paths[0] == str(tmp_path)
    assert loads(reference, Path("/")) == "Bank"


def test_a_class_of_this_test_module_can_be_imported_elsewhere() -> None:
    assert loads(refer_to(AtTopLevel), Path("/")) == "AtTopLevel"


@pytest.mark.parametrize("start", [["run.py"], ["-m", "run"]], ids=["file", "module"])
def test_a_class_of_the_running_script(tmp_path: Path, start: list[str]) -> None:
    (tmp_path / "run.py").write_text(SCRIPT)
    done = run(*start, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    spec, *import_paths = done.stdout.splitlines()
    reference = ApplicationReference(spec=spec, import_paths=tuple(import_paths))
    assert import_paths == [str(tmp_path)]
    assert loads(reference, Path("/")) == "Bank"
    assert reference.identity == "run:Bank"


NOTEBOOK = {"plain": "", "in main": "get_ipython = lambda: None\n"}
NOTEBOOK["in builtins"] = "import builtins; builtins.get_ipython = lambda: None\n"


@pytest.mark.parametrize("kind", NOTEBOOK)
def test_a_class_of_an_interactive_interpreter_is_refused_with_the_way_to_a_file(tmp_path: Path, kind: str) -> None:
    done = run("-", cwd=tmp_path, stdin=NOTEBOOK[kind] + SCRIPT)
    assert done.returncode == 1
    assert "ApplicationUnknownError: Bank is defined in __main__, which is no file" in done.stderr
    assert ("begin the cell of the class with `%%writefile bank.py`" in done.stderr) == (kind != "plain")
    assert ("write the class to a file, such as bank.py" in done.stderr) == (kind == "plain")
    assert "`from bank import Bank`" in done.stderr
    assert "import IPython" not in done.stderr


# What a program does to its search path, and the module of the application that it then finds: a class is asked for by
# the program itself, a text as it is.
PATHS = {
    "relative": ("sys.path.insert(0, 'lib')", "till"),
    "appended": ("sys.path.append('./lib/../lib')", "till"),
    "zip": ("sys.path.insert(0, 'lib.zip')", "till"),
    "inside zip": ("sys.path.insert(0, 'outer.zip/lib')", "till"),
    "link": ("os.symlink('lib', 'link'); sys.path.insert(0, 'link')", "till"),
    "package": ("sys.path.insert(0, 'lib')", "firm.till"),
    "working folder": ("os.chdir('lib'); sys.path.insert(0, '')", "till"),
    "odd entries": ("sys.path[:0] = ['nowhere', 'lib', 'lib/tills.txt']", "till"),
    "elsewhere": ("sys.path.insert(0, 'lib'); import till; os.chdir('lib/firm'); sys.path[0] = '..'", "till"),
}
ASKS = """
import importlib, os, sys
{act}
from raftactors.cluster.application import refer_to
reference = refer_to({application})
print(reference.spec, *reference.import_paths, sep="\\n")
"""


@pytest.mark.parametrize("named", ["class", "text"])
@pytest.mark.parametrize("way", PATHS)
def test_what_the_program_put_on_its_search_path_is_found_by_a_node(tmp_path: Path, way: str, named: str) -> None:
    act, module = PATHS[way]
    lib = tmp_path / "lib"
    (lib / "firm").mkdir(parents=True)
    (lib / "rates.py").write_text("RATE = 2")
    (lib / "tills.txt").write_text("no folder")
    for file in (lib / "till.py", lib / "firm" / "till.py"):
        file.write_text(f"import rates\n{BANK}")
    for archive, inner in (("lib.zip", ""), ("outer.zip", "lib/")):
        with zipfile.ZipFile(tmp_path / archive, "w") as content:
            for name in ("till.py", "rates.py"):
                content.write(lib / name, inner + name)
    application = f"importlib.import_module({module!r}).Bank" if named == "class" else repr(f"{module}:Bank")
    done = run("-c", ASKS.format(act=act, application=application), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    spec, *import_paths = done.stdout.splitlines()
    assert spec == f"{module}:Bank"
    assert all(Path(path).is_absolute() for path in import_paths)
    assert not [path for path in import_paths if "site-packages" in path or "/lib/python3" in path]
    assert loads(ApplicationReference(spec=spec, import_paths=tuple(import_paths)), Path("/")) == "Bank"


def test_the_order_of_the_search_path_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rates.py").write_text(f"NAME = {folder!r}")
    (tmp_path / "second" / "till.py").write_text(f"import rates\nassert rates.NAME == 'first'\n{BANK}")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), *sys.path, str(tmp_path / "second")])
    for application in ("till:Bank", str(tmp_path / "second" / "till.py:Bank")):
        assert loads(refer_to(application), Path("/")) == "Bank"


def test_an_editable_install_that_maps_names_to_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "__init__.py").write_text("")
    (tmp_path / "src" / "till.py").write_text(BANK)

    class Finder:
        """As build tools install them, to be found by every interpreter of the environment."""

        @classmethod
        def find_spec(cls, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
            file = tmp_path / "src" / "__init__.py"
            return importlib.util.spec_from_file_location(name, file) if name == "company" else None

    Finder.__module__ = "__editable___company_finder"
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    for name in ("company", "company.till"):
        monkeypatch.setitem(sys.modules, name, importlib.import_module(name))
    assert refer_to(sys.modules["company.till"].Bank).spec == "company.till:Bank"


def test_a_local_class_is_refused() -> None:
    class Local(KeyValue):
        """An application that lives in a function."""

    with pytest.raises(ApplicationUnknownError, match="Local is defined inside a function or class"):
        refer_to(Local)


def test_a_class_that_its_module_no_longer_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = AtTopLevel
    monkeypatch.setattr(sys.modules[__name__], "AtTopLevel", KeyValue)
    with pytest.raises(ApplicationUnknownError, match="has another AtTopLevel"):
        refer_to(kept)


def test_a_file_named_by_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "till.py").write_text(BANK)
    monkeypatch.chdir(tmp_path)
    reference = refer_to("till.py:Bank")
    assert reference.spec == f"{tmp_path / 'till.py'}:Bank" and reference.import_paths[0] == str(tmp_path)
    assert loads(reference, Path("/")) == "Bank"


def test_a_module_named_by_text_is_searched_where_this_program_would_look(tmp_path: Path) -> None:
    (tmp_path / "till.py").write_text(BANK)
    reference = refer_to("till:Bank", search_in=(str(tmp_path),))
    assert reference.import_paths[0] == str(tmp_path)
    assert loads(reference, Path("/")) == "Bank"


def test_a_storage_module_beside_the_program_disturbs_nothing(tmp_path: Path) -> None:
    (tmp_path / "till.py").write_text("import storage\nassert storage.MINE\n" + BANK)
    for name in ("storage", "transport"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    reference = refer_to("till:Bank", search_in=(str(tmp_path),))
    assert loads(reference, tmp_path) == "Bank"


@pytest.mark.parametrize("text", ["bank", "bank:", ":Bank", "bank:Bank.Inner", ""])
def test_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ApplicationUnknownError, match=r"write it as MODULE:CLASS or FILE\.py:CLASS"):
        refer_to(text)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ApplicationUnknownError, match=r"nowhere\.py does not exist"):
        refer_to("nowhere.py:Bank")


def test_identity_does_not_depend_on_the_way_of_naming() -> None:
    names = ["pkg.bank:Bank", "bank:Bank", "/somewhere/bank.py:Bank"]
    assert {ApplicationReference(spec=name).identity for name in names} == {"bank:Bank"}
    assert ApplicationReference(spec="bank:Other").identity != "bank:Bank"


def test_what_is_found_is_what_a_node_loads() -> None:
    assert load_application(refer_to(KeyValue).spec) is KeyValue
