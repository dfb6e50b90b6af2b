# make demo   install into .venv and run the demonstration
# make test   install with the developers' tools and run what every change must pass
# The remaining targets are for contributors: see CONTRIBUTING.md. Nothing outside this folder is written.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PIP := PIP_ROOT_USER_ACTION=ignore .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input
PYTEST := .venv/bin/python -m pytest

.PHONY: demo test test-long lint fix coverage coverage-pure coverage-rest test-nightly test-release bench clean

demo: .venv/installed
	@.venv/bin/python examples/demo.py

# As many processes as there are processors. The tests of a file stay together: they may share a cluster, which is started
# once then, and at the end of a file tests/conftest.py looks for what it left behind.
SHARED := --numprocesses logical --maxprocesses 8 --dist loadfile

test: lint
	@$(PYTEST) $(SHARED)

test-long: .venv/installed-dev
	@$(PYTEST) $(SHARED) -m "long and not nightly and not release"

lint: .venv/installed-dev
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --check --quiet . || { echo "run make fix: the files above are not formatted"; exit 1; }
	@.venv/bin/mypy
	@report=$$(.venv/bin/lint-imports --no-logo) || { echo "$$report"; exit 1; }

fix: .venv/installed-dev
	@.venv/bin/ruff check --fix --quiet .
	@.venv/bin/ruff format --quiet .

# Two halves side by side: the tests of pure code, then those that start processes or wait for disks and sockets.
# Planted bugs say nothing about coverage, and the sweeps go over the same lines a hundred thousand times.
# A traced test takes several times as long.
COVERING := -m "not nightly and not release"
PURE_TESTS := $(addprefix tests/,codec conformance core interaction simulation)
NOT_COVERING := $(addprefix --ignore=tests/,simulation/test_mutants.py storage/test_damage.py storage/test_explorer.py storage/test_mutants.py)

coverage: .venv/installed-dev
	@.venv/bin/coverage erase
	@$(MAKE) --no-print-directory --jobs 2 coverage-pure coverage-rest
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report
	@echo "raftactors/core, of which 98 % must be covered:"
	@.venv/bin/coverage report --include 'raftactors/core/*' --precision 2 --fail-under 98

coverage-pure:
	@.venv/bin/coverage run -m pytest $(COVERING) -p no:cacheprovider --timeout 600 $(PURE_TESTS) $(NOT_COVERING)

coverage-rest:
	@.venv/bin/coverage run -m pytest $(COVERING) -p no:cacheprovider --timeout 600 $(addprefix --ignore=,$(PURE_TESTS)) $(NOT_COVERING)

test-nightly: .venv/installed-dev
	@$(PYTEST) -m "long or nightly"

test-release: .venv/installed-dev
	@$(PYTEST) -m "long or nightly or release"

bench: .venv/installed
	@.venv/bin/python bench/core.py
	@.venv/bin/python bench/throughput.py

clean:
	@rm -rf .venv build dist storage/*.so raftactors.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# Two stamps: the program alone, and with the developers' tools. A change of the metadata or of the compiled part
# installs again.
.venv/installed: .venv/pyvenv.cfg pyproject.toml setup.cfg setup.py $(wildcard storage/compiled/*)
	@echo "installing raftactors into .venv"
	@$(PIP) --editable .
	@touch .venv/installed

.venv/installed-dev: .venv/pyvenv.cfg pyproject.toml setup.cfg setup.py $(wildcard storage/compiled/*)
	@echo "installing raftactors and the developers' tools into .venv"
	@$(PIP) --editable ".[dev]"
	@touch .venv/installed .venv/installed-dev

.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "raftactors needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; exit 1; }
