# `make demo` and `make test` do all the set-up: a virtual environment in .venv with every package pinned by hash.
# Needed beforehand: Python 3.11 or newer with its venv module, make, and a C compiler where a package has no wheel.
# Each target takes more arguments for its program: make demo ARGS=…, make test PYTEST_ARGS=…

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCKED := requirements/locked.txt
UV := uv==0.13.9
PIP := $(BIN)/python -m pip --disable-pip-version-check

SECONDS ?= 20
SEED ?=
ARGS ?=
PYTEST_ARGS ?=
# The interpreter for a new .venv; empty: the newest of 3.13, 3.12 and 3.11 that starts, else python3.
PYTHON ?=

.NOTPARALLEL:
.PHONY: help venv demo test lint types architecture unit chaos test-node test-system grafana grafana-picture clips picture-top lock build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## make .venv with everything installed

$(STAMP): pyproject.toml $(LOCKED)
	@tools/make-venv $(VENV) $(PYTHON)
	@echo "== installing the packages of $(LOCKED)"
	@$(PIP) install --quiet --require-hashes --requirement $(LOCKED)
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
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
	{ echo '# What builds the wheel out of a checkout: deploy/install.sh uses it once. Made by `make lock`.'; \
	  echo 'hatchling>=1.27' | pin --no-annotate --constraint "$$scratch/locked.txt" -; } > "$$scratch/build.txt"; \
	cd "$$scratch"; \
	if grep -n '://' locked.txt service.txt build.txt; then echo 'error: a lock file names a host' >&2; exit 1; fi; \
	cp locked.txt service.txt build.txt '$(CURDIR)/requirements/'; \
	git -C '$(CURDIR)' --no-pager diff --stat -- requirements

build: $(STAMP) ## dist/: the wheel and the source archive
	@$(BIN)/python -m build --no-isolation

clean: ## remove .venv, dist and the caches
	@rm -rf $(VENV) dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
