"""Runs data-driven files: `python tests/conformance/datadriven.py PATH...` (files or folders).

The folder of a file (interaction, quorum, confchange) says which notation it is in. The last line is
`N passed, M failed`; the exit code is 1 if anything failed, 2 if a path holds no file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.conformance.datadriven_run import rewritten, run_file


def script_paths(arguments: list[Path]) -> Iterator[Path]:
    """The `.txt` files among files and folders, in order of name. Raises FileNotFoundError for a path without any."""
    for path in arguments:
        found = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        if not found or not path.exists():
            raise FileNotFoundError(f"{path}: no .txt file here; name a script or a folder of scripts")
        yield from found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Run data-driven files against raftactors.core.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a script or a folder of scripts")
    parser.add_argument("--log-text", action="store_true", help="compare the log text of interaction scripts, too")
    parser.add_argument("--rewrite", action="store_true", help="print the scripts with our outputs, compare nothing")
    parser.add_argument("--in-place", action="store_true", help="with --rewrite: change the files")
    options = parser.parse_args(arguments)
    if options.in_place and not options.rewrite:
        parser.error("--in-place goes with --rewrite")
    try:
        paths = list(script_paths(options.paths))
    except FileNotFoundError as error:
        parser.error(str(error))
    if options.rewrite:
        for path in paths:
            text = rewritten(path)
            if options.in_place:
                path.write_text(text, encoding="utf-8")
            else:
                sys.stdout.write(text)
        return 0
    failed = 0
    for path in paths:
        failure = run_file(path, log_text=options.log_text)
        if failure is not None:
            failed += 1
            print(failure.describe())
    print(f"{len(paths) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
