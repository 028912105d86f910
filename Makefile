# `make demo` and `make test` do all the set-up: a virtual environment in .venv with every package pinned by hash.
# Needed beforehand: Python 3.11 or newer with its venv module, make, and a C compiler where a package has no wheel. With
# a compiler and Python.h the modules on a frame's way are compiled, too (hatch_build.py); without, they are pure Python.
# Each target takes more arguments for its program: make demo ARGS=…, make test PYTEST_ARGS=…

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := $(VENV)/.packages
LOCKED := requirements/locked.txt
TYPED := $(shell find supplierd clients/python -name '*.pyx' -o -name '*.pxd')
COMPILED := hatch_build.py $(TYPED) $(wildcard $(addsuffix .py,$(basename $(TYPED))))
UV := uv==0.13.9
PEERS := .venv-peers
MEASURED := build/bench
PIP := $(BIN)/python -m pip --disable-pip-version-check

SECONDS ?= 20
# For `make fuzz`: inputs for each target. For `make soak`: how long it measures.
RUNS ?= 100000
SOAK_SECONDS ?= $(if $(filter command%,$(origin SECONDS)),$(SECONDS),1800)
SEED ?=
ARGS ?=
PYTEST_ARGS ?=
# The interpreter for a new .venv; empty: the newest of 3.14 to 3.11 that starts, else python3.
PYTHON ?=

.NOTPARALLEL:
.PHONY: help venv demo test lint types architecture unit chaos histories test-node test-system fuzz soak bench bench-peers bench-growth bench-scraping grafana grafana-picture clips picture-top lock build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## make .venv with everything installed

$(PACKAGES): pyproject.toml $(LOCKED)
	@tools/make-venv $(VENV) $(PYTHON)
	@echo "== installing the packages of $(LOCKED)"
	@$(PIP) install --quiet --require-hashes --requirement $(LOCKED)
	@touch $@

# pip would compile, too, but say nothing of it.
$(STAMP): $(PACKAGES) $(COMPILED)
	@SUPPLIERD_COMPILE=0 $(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python hatch_build.py
	@touch $@

demo: $(STAMP) ## a daemon, a clip and workers for SECONDS (20) on this machine; ARGS go to `supplierd demo`
	@$(BIN)/supplierd demo --seconds $(SECONDS) $(ARGS)

test: lint types architecture unit ## every check: style, types, import layers, tests

lint: $(STAMP) ## style: ruff's rules and format
	@failed=; for task in check 'format --check'; do \
	    echo "== ruff $$task"; $(BIN)/ruff $$task || failed=yes; \
	done; [ -z "$$failed" ]

types: $(STAMP) ## types: mypy --strict
	@echo "== mypy"
	@$(BIN)/mypy

architecture: $(STAMP) ## import layers: import-linter's contracts
	@echo "== import layers"
	@$(BIN)/lint-imports

unit: $(STAMP) ## the tests alone; PYTEST_ARGS go to pytest
	@echo "== pytest"
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

chaos: SECONDS = 60
chaos: $(STAMP) ## faults upon real processes for SECONDS (60), by a SEED that replays them; as root also of the network
	@$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

test-node: $(STAMP) ## the client for Node: install its packages, run its tests and those with a daemon
	@cd clients/node && npm ci --ignore-scripts --no-audit --no-fund
	@$(BIN)/python -m pytest tests/clients $(PYTEST_ARGS)

test-system: $(STAMP) ## the heavy tests: systemd in a container, Prometheus, Alertmanager (root, Debian; 5 minutes)
	@$(BIN)/python -m pytest -m system $(PYTEST_ARGS)

bench: $(STAMP) ## speed: supplierd's lanes against raw pyzmq (4 minutes); ARGS go to benchmarks/compare.py
	@$(BIN)/python benchmarks/compare.py --systems supplierd zmq --works jpeg-8 raw-8 raw-mixed --rounds 3 \
	    --json $(MEASURED)/own.json $(ARGS)

bench-peers: $(PEERS)/.installed ## speed: against imagezmq, NetGear, zenoh, iceoryx2, eCAL, GStreamer, Redis (25 minutes; see ARGS)
	@$(PEERS)/bin/python benchmarks/compare.py --json $(MEASURED)/peers.json --markdown $(MEASURED)/peers.md \
	    --pictures docs/pictures --paste docs/performance.md --paste-summary README.md $(ARGS)

$(PEERS)/.installed: pyproject.toml requirements/peers.txt requirements/build.txt $(COMPILED)
	@tools/peers-install $(PEERS) $(PYTHON)
	@touch $@

bench-growth: $(PEERS)/.installed ## speed: how cost grows with workers and size (6 minutes)
	@$(PEERS)/bin/python benchmarks/growth.py --json $(MEASURED)/growth.json --pictures docs/pictures \
	    --paste docs/performance.md $(ARGS)

bench-scraping: $(STAMP) ## speed: whether scrapes change the age of frames (8 minutes)
	@$(BIN)/python benchmarks/scraping.py --json $(MEASURED)/scraping.json --paste docs/performance.md $(ARGS)

histories: HISTORIES ?= 10000
histories: $(STAMP) ## random HISTORIES (10000, 5 minutes) of publishers and workers against the model
	@HISTORIES=$(HISTORIES) $(BIN)/python -m pytest --timeout 0 tests/core/test_histories.py $(PYTEST_ARGS)

fuzz: $(STAMP) ## whatever reads bytes from outside gets RUNS (100000) inputs for each target, by atheris and Hypothesis
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
	    $(PIP) install --quiet --require-hashes --only-binary :all: --requirement requirements/fuzz.txt || \
	    echo "atheris has no wheel for this Python: Hypothesis alone"
	@$(BIN)/python tools/fuzz.py --runs $(RUNS) $(ARGS)

soak: $(STAMP) ## 64 workers, 10000 joins and leaves, restarts: does anything grow? SECONDS (1800); ARGS=--help
	@$(BIN)/python benchmarks/soak.py --seconds $(SOAK_SECONDS) $(ARGS)

grafana: $(STAMP) ## the dashboard's file, out of tools/grafana/dashboard.py
	@$(BIN)/python tools/grafana/dashboard.py

grafana-picture: $(STAMP) ## the dashboard, drawn by Grafana's panels, and checked (npm, chromium; 500 MB once)
	@$(BIN)/python tools/grafana/picture.py

clips: $(STAMP) ## fetch the demonstration's clips into the user's cache (ARGS=--with-debian: one more, 96 MB)
	@$(BIN)/python -m supplierd.demo.clips $(ARGS)

picture-top: $(STAMP) ## docs/pictures/top.svg and .png: `supplierd top` at a real daemon (3 minutes; the PNG by Chromium)
	@$(BIN)/python tools/top_picture.py $(ARGS)

lock: $(STAMP) ## pin the newest versions that pyproject.toml allows
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(BIN)/python -m venv "$$scratch"; \
	"$$scratch/bin/pip" install --quiet '$(UV)'; \
	pin() { "$$scratch/bin/uv" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	    --generate-hashes --no-header --no-emit-index-url --no-emit-find-links "$$@"; }; \
	{ echo '# Every package for running, capturing, the examples and development, pinned with hashes.'; \
	  echo '# Made from pyproject.toml by `make lock`; not edited by hand.'; \
	  pin --annotation-style line --upgrade --all-extras --group dev pyproject.toml; } > "$$scratch/locked.txt"; \
	{ echo '# What the service needs to run, to capture and for its top: deploy/install.sh installs it. Made by `make lock`.'; \
	  pin --no-annotate --constraint "$$scratch/locked.txt" --extra capture --extra top pyproject.toml; } > "$$scratch/service.txt"; \
	{ echo '# What `make bench-peers` compares with, the plots, and what the service needs. Made by `make lock`.'; \
	  pin --annotation-style line --constraint "$$scratch/locked.txt" --group benchmark pyproject.toml; } > "$$scratch/peers.txt"; \
	{ echo '# What builds the wheel out of a checkout: deploy/install.sh uses it once. Made by `make lock`.'; \
	  $(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	    | pin --no-annotate --constraint "$$scratch/locked.txt" -; } > "$$scratch/build.txt"; \
	{ echo '# The fuzzing engine of `make fuzz`, which installs it where it has a wheel. Made by `make lock`.'; \
	  pin --no-annotate --group fuzz; } > "$$scratch/fuzz.txt"; \
	cd "$$scratch"; \
	if grep -n '://' locked.txt service.txt peers.txt build.txt fuzz.txt; then echo 'error: a lock file names a host' >&2; exit 1; fi; \
	cp locked.txt service.txt peers.txt build.txt fuzz.txt '$(CURDIR)/requirements/'; \
	git -C '$(CURDIR)' --no-pager diff --stat -- requirements

build: $(STAMP) ## dist/: the wheel and the source archive
	@$(BIN)/python -m build --no-isolation

clean: ## remove .venv, dist, the compiled modules and the caches
	@rm -rf $(VENV) $(PEERS) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find supplierd clients/python -name '*.so' -delete
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
