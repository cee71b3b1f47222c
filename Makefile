# Two commands do everything on a fresh machine with git, make and Python 3.11+: `make demo`, `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test check bench bench-slice crash simulate fortnight docs lock help

help:
	@echo "make demo    run the main job on the example manifest, no key needed"
	@echo "make test    run the tests"
	@echo "make check   lint, format and type checks"
	@echo "make bench   measure, beside what a user would pick instead: about an hour"
	@echo "make crash   kill -9 at 100 random moments: nothing paid is lost"
	@echo "make simulate  10,000 simulated nights with faults"
	@echo "make fortnight  fourteen nights over HTTP, checked against what was served"
	@echo "make docs    write the reference from the code, and pictures from a real terminal and browser"
	@echo "make lock    pin all dependencies anew"

# Everything from the lock file, hashes checked; quick when nothing changed.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("mediabatch needs Python 3.11 or newer; say make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV)…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# One row of the example fails on purpose: a broken picture. A share of 0.1 may.
demo: $(READY)
	$(BIN)/mediabatch run data/manifests/example.csv --embedded --max-failed 0.1

# By file, for what a file sets up (a browser, a bucket, a cluster) is set up once.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks

bench-slice: $(READY)
	$(BIN)/python -m benchmarks --slice

# A real server that counts, 2,000 items, kill -9 at 100 random moments; the tests run 10 of them.
crash: $(READY)
	$(BIN)/python -m tests.crash --kills 100 --items 2000
	$(BIN)/python -m tests.crash --kills 100 --items 2000 --settle

# Whole nights in virtual time with a seeded, faulty endpoint and disk; the tests run 300 of them.
simulate: $(READY)
	$(BIN)/python -m tests.simulation --seeds 10000

fortnight: $(READY)
	$(BIN)/python -m tests.fortnight

docs: $(READY)
	$(BIN)/python -m docs.make_reference
	$(BIN)/python -m docs.make_pictures
	$(BIN)/python -m docs.make_pages

lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --quiet --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra ray --universal --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --quiet --constraint requirements.lock \
		--output-file requirements-ray.lock
