"""The compiled encoder under the address and undefined-behaviour sanitizers, while its own tests run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SANITIZE = "-fsanitize=address,undefined"
FLAGS = ("-O1", "-g", SANITIZE, "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")


def run_sanitized(tree: Path, words: list[str], *defines: str) -> subprocess.CompletedProcess[str]:
    """Python in `tree`, whose encoder is built with sanitizers here."""
    compiler = shutil.which("gcc")
    if compiler is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("needs gcc and Python's headers")
    libraries = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(map(os.path.isabs, libraries)):
        pytest.skip("needs gcc's sanitizer libraries")
    target = tree / "storage" / f"_encoder{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = sorted((tree / "storage" / "compiled").glob("*.c"))
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run(
        [compiler, *FLAGS, *defines, include, *map(str, sources), "-o", str(target)], check=True, timeout=100
    )
    environment = os.environ | {
        "LD_PRELOAD": " ".join(libraries),
        # The interpreter itself keeps memory at its end; with its own allocator the sanitizer would not see a block.
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
    }
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns(".*", "*.so", "__pycache__", "build", "dist", "*.egg-info")
    return Path(shutil.copytree(ROOT, tmp_path / "tree", symlinks=True, ignore=ignored))


@pytest.mark.nightly
@pytest.mark.timeout(400)
@pytest.mark.parametrize("defines", [(), ("-DCRC_BY_TABLE",)], ids=["this processor", "any processor"])
def test_the_compiled_encoder_touches_only_its_own_memory(tree: Path, defines: tuple[str, ...]) -> None:
    tests = ["tests/storage/test_encoding.py", "-k", "same or refused or kept", "-p", "no:cacheprovider"]
    done = run_sanitized(tree, ["-m", "pytest", *tests], *defines)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.nightly
@pytest.mark.timeout(400)
def test_the_sanitizers_see_a_byte_too_far(tree: Path) -> None:
    source = tree / "storage" / "compiled" / "marks.c"
    sound = "    memset(start, 0, length);\n"
    text = source.read_text()
    assert sound in text
    source.write_text(text.replace(sound, "    memset(start, 0, length + 2);\n"))
    done = run_sanitized(tree, ["-c", "from raftactors.storage import encoding"])
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


@pytest.mark.nightly
@pytest.mark.timeout(400)
def test_a_wrong_table_is_left_out(tree: Path) -> None:
    source = tree / "storage" / "compiled" / "crc32c.c"
    text = source.read_text()
    assert "0x82F63B78" in text
    source.write_text(text.replace("0x82F63B78", "0xEDB88320"))
    program = "from raftactors.storage import encoding; assert encoding.ENCODER == 'Python'"
    done = run_sanitized(tree, ["-c", program], "-DCRC_BY_TABLE")
    assert (done.returncode, "it gives other bytes" in done.stderr) == (0, True), done.stderr
