"""What is installed is what is on disk, under the names that the program imports, beside anything a user has."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.timeout(300)  # an environment is filled from a package index once

MAPPED = {"raftactors.storage": "storage", "raftactors.transport": "transport"}

_NOT_COPIED = ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
_NO_INDEX = ("No matching distribution", "Could not find a version", "Max retries", "Temporary failure", "Network is")


def _folders() -> dict[str, Path]:
    """Every package on disk and its folder; the two links are left out in favour of what they point to."""
    tops = {"raftactors": ROOT / "raftactors"} | {name: ROOT / folder for name, folder in MAPPED.items()}
    return {
        ".".join([name, *init.parent.relative_to(top).parts]): init.parent
        for name, top in tops.items()
        for init in top.rglob("__init__.py")
        if not any((ROOT / "raftactors" / folder) in init.parents for folder in MAPPED.values())
    }


def _run(*command: str | Path, cwd: Path, timeout: float = 100.0) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    arguments = [str(word) for word in command]
    return subprocess.run(
        arguments, cwd=cwd, env=inherited, capture_output=True, text=True, check=False, timeout=timeout
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The wheel made from the source distribution made from a copy of the tree, and what the build printed."""
    tree = tmp_path_factory.mktemp("tree of sources") / "raftactors"
    copytree(ROOT, tree, symlinks=True, ignore=_NOT_COPIED)
    done = _run(sys.executable, "-m", "build", "--no-isolation", cwd=tree)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    return wheel, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(built: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel, its dependencies and nothing else."""
    folder = tmp_path_factory.mktemp("clean environment")
    made = _run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    assert made.returncode == 0, made.stderr
    python = folder / "venv" / "bin" / "python"
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    alone = _run(*install, "--no-deps", built[0], cwd=folder)
    assert alone.returncode == 0, alone.stderr
    complete = _run(*install, "--retries", "1", built[0], cwd=folder)
    if complete.returncode and any(reason in complete.stderr for reason in _NO_INDEX):
        pytest.skip(f"pip reaches no package index: {complete.stderr.strip().splitlines()[-1]}")
    assert complete.returncode == 0, complete.stderr
    return python


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    """A folder of a user whose own modules are called like ours."""
    for name in MAPPED.values():
        (tmp_path / f"{name}.py").write_text("OWNER = 'user'\n", encoding="utf-8")
    return tmp_path


def test_every_package_on_disk_is_in_the_package_map() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")

    assert config["options"]["packages"].split() == sorted(_folders())
    mapped = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    assert mapped == MAPPED


def test_the_links_show_the_mapped_packages_to_the_static_tools() -> None:
    for name, folder in MAPPED.items():
        link = ROOT / name.replace(".", "/")
        assert link.is_symlink()
        assert link.resolve() == ROOT / folder


def test_the_wheel_holds_every_module_once_and_nothing_else(built: tuple[Path, str]) -> None:
    names = [name for name in zipfile.ZipFile(built[0]).namelist() if ".dist-info/" not in name]

    compiled = [name for name in names if name.endswith(".so")]  # none without a C compiler
    expected = {"raftactors/py.typed", "raftactors/storage/_encoder.pyi", *compiled}
    for package, folder in _folders().items():
        expected |= {f"{package.replace('.', '/')}/{path.name}" for path in folder.glob("*.py")}
    assert sorted(names) == sorted(expected)
    assert [name.partition(".")[0] for name in compiled] in ([], ["raftactors/storage/_encoder"])


def test_the_wheel_carries_the_license(built: tuple[Path, str]) -> None:
    names = zipfile.ZipFile(built[0]).namelist()

    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_build_warns_of_nothing(built: tuple[Path, str]) -> None:
    lines = built[1].splitlines()

    assert [line for line in lines if "warning" in line.lower() or "deprecat" in line.lower()] == []


@pytest.mark.long
def test_installed_packages_are_ours_beside_a_users_modules_of_the_same_name(
    installed: Path, user_folder: Path
) -> None:
    program = (
        "import storage, transport, raftactors.storage, raftactors.transport\n"
        "print(storage.OWNER, transport.OWNER)\n"
        "print(raftactors.storage.__file__)\n"
        "print(raftactors.transport.__file__)\n"
    )
    (user_folder / "program.py").write_text(program, encoding="utf-8")

    done = _run(installed, "program.py", cwd=user_folder)

    assert done.returncode == 0, done.stderr
    owners, *files = done.stdout.splitlines()
    assert owners == "user user"
    environment = installed.parents[1]
    assert all(Path(file).is_relative_to(environment) for file in files), files
    assert [Path(file).parts[-3:-1] for file in files] == [("raftactors", "storage"), ("raftactors", "transport")]


@pytest.mark.long
def test_installed_commands_start(installed: Path, user_folder: Path) -> None:
    commands: list[list[str | Path]] = [[installed.parent / "raftactors"], [installed, "-m", "raftactors"]]
    for command in commands:
        done = _run(*command, "--help", cwd=user_folder)
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout


@pytest.mark.long
def test_installed_cluster_runs_for_a_three_line_program(installed: Path, user_folder: Path) -> None:
    program = (
        "from raftactors.cluster import LocalCluster\n"
        "with LocalCluster(3) as cluster, cluster.client() as client:\n"
        "    print(client.call('put', 'greeting', 'hello'), client.query('get', 'greeting'))\n"
    )
    (user_folder / "program.py").write_text(program, encoding="utf-8")

    done = _run(installed, "program.py", cwd=user_folder)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "1 hello\n"


@pytest.mark.long
def test_the_example_of_the_readme_runs(installed: Path, user_folder: Path) -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    (user_folder / "example.py").write_text(example[1], encoding="utf-8")

    done = _run(installed, "example.py", cwd=user_folder)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "hello\n"


@pytest.mark.long
def test_the_readme_names_exactly_the_commands_there_are(installed: Path, user_folder: Path) -> None:
    table = re.findall(r"^\| `raftactors (.*?) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = {words.split()[0].strip("`") for row in table for words in row.split(", `")}

    done = _run(installed.parent / "raftactors", "--help", cwd=user_folder)

    assert done.returncode == 0, done.stderr
    groups = done.stdout.partition("\nRun:")[2].partition("\nTry these first:")[0]
    assert named == set(re.findall(r"^  (\w+) +\S", groups, re.MULTILINE))
