"""The style rules that a machine can check, each with a planted violation that proves the check can fail."""

from __future__ import annotations

import ast
import configparser
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raftactors.errors import ExitCode

ROOT = Path(__file__).resolve().parents[1]
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
LINKS = {"raftactors/storage": "../storage", "raftactors/transport": "../transport"}

_GENERATED = {"build", "dist", "__pycache__", "site-packages", "node_modules"}
_TAB_FREE_SUFFIXES = {".py", ".pyi", ".c", ".h", ".md", ".toml", ".cfg", ".yml", ".yaml"}
_TEXT_SUFFIXES = _TAB_FREE_SUFFIXES | {".ini", ".json", ".sh", ".txt", ".service", ""}
_BANNED_WORDS = {"util", "utils", "helper", "helpers", "manager", "managers"}
_BANNED_MODULES = _BANNED_WORDS | {"data", "info"}
_UNSAFE_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle"}
_UNSAFE_CALLS = {"eval", "exec", "yaml.load", "yaml.unsafe_load"}
_UNSAFE_METHODS = {"send_pyobj", "recv_pyobj"}
# The documentation's own user is called ann; every other home folder is somebody's.
_MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:home/(?!ann/)|root/|work/|Users/)\w")
_REGISTRY_HOST = re.compile(r"https?://[^\s/]+/simple\b|(?:index|registry)[-_]url\s*=")

Check = Callable[[Path], list[str]]


def _files(root: Path, suffixes: set[str]) -> Iterator[Path]:
    """Every file of the project itself, in a stable order; links are not followed, so nothing is seen twice."""
    for folder, names, files in os.walk(root):
        names[:] = sorted(
            name
            for name in names
            if not name.endswith(".egg-info") and name not in _GENERATED and (name[0] != "." or name == ".ci")
        )
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix in suffixes and not path.is_symlink() and not name.startswith(".coverage"):
                yield path


def _modules(root: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in _files(root, {".py"}):
        yield str(path.relative_to(root)), ast.parse(path.read_text(encoding="utf-8"))


def _lines(root: Path, suffixes: set[str]) -> Iterator[tuple[str, str]]:
    for path in _files(root, suffixes):
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            yield f"{path.relative_to(root)}:{number}", line


def _package_folders(root: Path) -> list[Path]:
    """The folders of the installed packages: below raftactors/, and the two that are mapped into it."""
    tops = [root / "raftactors", *(root / name.partition("/")[2] for name in LINKS)]
    return sorted({path.parent for top in tops if top.is_dir() for path in _files(top, {".py"})})


def long_files(root: Path) -> list[str]:
    """A file does one thing, and a reader can hold it."""
    counts = ((path, len(path.read_text(encoding="utf-8").splitlines())) for path in _files(root, {".py", ".c"}))
    return [f"{path.relative_to(root)}: {count} lines" for path, count in counts if count > FILE_LINES_MAX]


def long_functions(root: Path) -> list[str]:
    """A function fits on a screen."""
    return [
        f"{name}:{node.lineno} {node.name}: {length} lines"
        for name, module in _modules(root)
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def banned_names(root: Path) -> list[str]:
    """A name says what a thing is; these say that nobody knew."""
    findings = []
    for name, module in _modules(root):
        if _BANNED_MODULES & set(Path(name).with_suffix("").parts):
            findings.append(f"{name}: module name")
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", node.name).lower().split("_")
                if _BANNED_WORDS & set(words):
                    findings.append(f"{name}:{node.lineno} {node.name}")
    return findings


def tabs(root: Path) -> list[str]:
    """Indentation is spaces, wherever the format does not ask for tabs."""
    return [place for place, line in _lines(root, _TAB_FREE_SUFFIXES) if "\t" in line]


def packages_without_docstring(root: Path) -> list[str]:
    """Every package says what it is for."""
    findings = []
    for folder in _package_folders(root):
        init = folder / "__init__.py"
        if not init.exists() or not ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))):
            findings.append(str(init.relative_to(root)))
    return findings


def modules_without_docstring(root: Path) -> list[str]:
    """Every public module says what it is for."""
    paths = (path for folder in _package_folders(root) for path in sorted(folder.glob("[!_]*.py")))
    return [
        str(path.relative_to(root))
        for path in paths
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]


def unsafe_loading(root: Path) -> list[str]:
    """Nothing in the tree can turn bytes into running code."""
    findings = []
    for name, module in _modules(root):
        for node in ast.walk(module):
            imported: list[str] = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in _UNSAFE_CALLS or called.rpartition(".")[2] in _UNSAFE_METHODS:
                    findings.append(f"{name}:{node.lineno} {called}()")
            findings += [
                f"{name} imports {module_name}"
                for module_name in imported
                if module_name.partition(".")[0] in _UNSAFE_MODULES
            ]
    return findings


def machine_paths(root: Path) -> list[str]:
    """Nothing depends on, or tells of, the machine where it was written."""
    return [f"{place}: {line.strip()}" for place, line in _lines(root, _TEXT_SUFFIXES) if _MACHINE_PATH.search(line)]


def registry_hosts(root: Path) -> list[str]:
    """Where packages come from is the installer's configuration, not ours."""
    return [f"{place}: {line.strip()}" for place, line in _lines(root, _TEXT_SUFFIXES) if _REGISTRY_HOST.search(line)]


def links_not_committed_as_links(root: Path) -> list[str]:
    """The static tools see the tree through two relative links; a copy in their place would be a second package."""
    findings = [
        f"{link} is not a link to {target}"
        for link, target in LINKS.items()
        if not (root / link).is_symlink() or (root / link).readlink() != Path(target)
    ]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "-c", f"safe.directory={root}", "ls-files", "--stage", *LINKS]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        modes = {line.partition("\t")[2]: line.split()[0] for line in listing.splitlines()}
        findings += [f"{link} has mode {modes.get(link)}" for link in LINKS if modes.get(link) != "120000"]
    return findings


def modules_without_layer(root: Path) -> list[str]:
    """A package that no layer names may import what it likes."""
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    layered = set(re.findall(r"raftactors\.\w+", config.get("importlinter:contract:layers", "layers", fallback="")))
    top = root / "raftactors"
    names = {path.name for path in top.iterdir() if (path / "__init__.py").exists()}
    names |= {path.stem for path in top.glob("*.py") if path.stem != "__init__"}
    return [f"raftactors.{name} is in no layer" for name in sorted(names) if f"raftactors.{name}" not in layered]


PLANTED: list[tuple[Check, str, str]] = [
    (long_files, "raftactors/long.py", "x = 1\n" * (FILE_LINES_MAX + 1)),
    (long_functions, "raftactors/long.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    (long_functions, "raftactors/long.py", "class A:\n  async def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    (banned_names, "raftactors/utils.py", ""),
    (banned_names, "raftactors/data/x.py", ""),
    (banned_names, "raftactors/x.py", "class SnapshotManager: ..."),
    (banned_names, "tests/x.py", "def wait_helper(): ..."),
    (tabs, "docs/x.md", "a\tb"),
    (packages_without_docstring, "raftactors/core/__init__.py", "x = 1"),
    (packages_without_docstring, "storage/wal.py", ""),
    (packages_without_docstring, "raftactors/app/batteries/queue.py", ""),
    (modules_without_docstring, "transport/router.py", "# only a comment"),
    (unsafe_loading, "raftactors/x.py", "import pickle"),
    (unsafe_loading, "raftactors/x.py", "from pickle import loads"),
    (unsafe_loading, "tests/x.py", "def f():\n    import shelve"),
    (unsafe_loading, "bench/x.py", "eval('1')"),
    (unsafe_loading, "transport/x.py", "import yaml\nyaml.load('')"),
    (unsafe_loading, "transport/x.py", "socket.recv_pyobj()"),
    (machine_paths, "docs/x.md", "see /" + "home/somebody/x"),
    (machine_paths, ".ci/run", "cd /" + "root/x"),
    (registry_hosts, "Makefile", "pip install -i https:/" + "/packages.example/simple"),
    (links_not_committed_as_links, "raftactors/storage/__init__.py", ""),
    (modules_without_layer, "raftactors/extra/__init__.py", ""),
    (modules_without_layer, "raftactors/extra.py", ""),
]
CHECKS = sorted({check for check, _, _ in PLANTED}, key=lambda check: check.__name__)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_tree_is_tidy(check: Check) -> None:
    assert check(ROOT) == [], check.__doc__


@pytest.mark.parametrize(
    ("check", "path", "text"), PLANTED, ids=[f"{c.__name__}-{i}" for i, (c, _, _) in enumerate(PLANTED)]
)
def test_check_finds_a_planted_violation(check: Check, path: str, text: str, tmp_path: Path) -> None:
    planted = tmp_path / path
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(text, encoding="utf-8")

    findings = check(tmp_path)

    assert any(planted.stem in finding or planted.parent.name in finding for finding in findings), findings


def test_links_check_finds_a_link_that_git_holds_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "raftactors").mkdir()
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    for link, target in LINKS.items():
        (tmp_path / link).symlink_to(target)
    subprocess.run([*git, "add", "raftactors"], check=True)
    assert links_not_committed_as_links(tmp_path) == []

    blob = subprocess.run([*git, "rev-parse", ":raftactors/storage"], check=True, capture_output=True, text=True)
    planted = f"100644,{blob.stdout.strip()},raftactors/storage"
    subprocess.run([*git, "update-index", "--cacheinfo", planted], check=True)

    assert links_not_committed_as_links(tmp_path) == ["raftactors/storage has mode 100644"]


def test_every_check_is_planted() -> None:
    defined = {
        function
        for name, function in globals().items()
        if callable(function)
        and getattr(function, "__module__", "") == __name__
        and not name.startswith(("_", "test_"))
    }
    assert defined == set(CHECKS)


def test_checks_see_the_whole_tree() -> None:
    seen = {str(path.relative_to(ROOT)) for path in _files(ROOT, _TEXT_SUFFIXES)}
    assert {"Makefile", ".ci/run", "README.md", "setup.cfg", "raftactors/errors.py", "storage/__init__.py"} <= seen
    assert not any(name.startswith(("raftactors/storage/", ".venv/", ".git/")) for name in seen)


def test_every_exit_code_is_documented() -> None:
    rows = re.findall(
        r"^\| (\d+) \| `(\w+)` \|", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert {name: int(code) for code, name in rows} == {code.name: code.value for code in ExitCode}


def test_every_link_between_the_pages_leads_somewhere() -> None:
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in _files(ROOT, {".md"})
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert dead == []
