# The developer's verbs: `make` lists them. Each creates .venv first when it is missing or older than the pins.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# What `make test` leaves out: tests/support/needs.py says what each marker means.
REST := tool or container or system or slow
# Many tests wait for a process rather than compute: two workers for each core keep the cores busy.
WORKERS := 4
REST_WORKERS := 4
PYTEST := $(BIN)/python -m pytest --dist worksteal

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help .venv demo quick test test-rest test-all check format bench mutants docs dashboards golden constraints clean

help: ## List these verbs
	@sed -n 's/^\([.a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r verb text; do printf '%-12s %s\n' "$$verb" "$$text"; done

.venv: $(READY) ## Create the Python environment with every package pinned; no other verb is needed for it

demo: .venv ## Run the demo until Ctrl-C; ARGS=--once ends it after the scenario
	@echo "demo: rolls an example application out, then a broken release back, while a client counts its requests"
	@$(BIN)/longshore demo $(ARGS)

quick: .venv ## Run the tests that start no process (about a minute)
	@echo "quick: runs the tests that start no process"
	@$(PYTEST) --numprocesses auto -m "not (process or $(REST))" $(ARGS)

test: .venv ## Run the tests that need Python only; ARGS="tests/health -k redirect" runs some of them
	@echo "test: runs the tests that need no other program than Python, against real servers on loopback"
	@$(PYTEST) --numprocesses $(WORKERS) -m "not ($(REST))" $(ARGS)

test-rest: .venv ## Run the tests that `make test` leaves out: containers, whole systems, Debian's programs, what takes long
	@echo "test-rest: runs the tests that need a container engine or programs of Debian, and those that take long"
	@$(PYTEST) --numprocesses $(REST_WORKERS) -m "$(REST)" $(ARGS)

test-all: .venv ## Run all tests
	@echo "test-all: runs all tests"
	@$(PYTEST) --numprocesses $(REST_WORKERS) $(ARGS)

check: .venv ## Check format, lint, types and imports, and change nothing
	@echo "check: ruff format, ruff check, mypy --strict, lint-imports"
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv ## Format the code and fix what ruff can fix
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: .venv ## Measure what Longshore costs on this machine
	@echo "bench: measures memory and CPU of every process while nothing happens (about a minute)"
	@$(BIN)/python -m tests.benchmarks.idle $(ARGS)

mutants: .venv ## Try wrong versions of the modules that decide; ARGS="rollout pool" tries those of some of them
	@echo "mutants: breaks each line that decides and looks whether a test fails (minutes)"
	@$(BIN)/python -m tests.mutation $(ARGS)

docs: .venv ## Write the generated reference pages again
	@echo "docs: writes docs/reference"
	@for page in events:schemas cli:services.cli metrics:services.metrics_gateway.instruments; do \
		$(BIN)/python -c "from $${page#*:}.reference import markdown; print(markdown(), end='')" \
			>docs/reference/$${page%%:*}.md || exit 1; done
	@$(BIN)/python -c "from services.common.process.lifecycle import VERSION; from schemas.asyncapi import text; print(text(VERSION), end='')" \
		>docs/reference/asyncapi.json

dashboards: .venv ## Write Grafana's dashboards and the alert rules again
	@echo "dashboards: writes compose/observability"
	@$(BIN)/python -m dashboards

golden: .venv ## Append new events and fields to the golden samples of the wire format
	@echo "golden: appends to tests/schemas/golden.json"
	@$(BIN)/python -m tests.schemas.golden

constraints: .venv ## Pin again what pyproject.toml asks for; ARGS=--upgrade takes the newest of everything
	@echo "constraints: pins every package with its hashes (takes minutes)"
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' >development.in
	@CUSTOM_COMPILE_COMMAND="make constraints" $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links $(ARGS) \
		--output-file constraints.txt pyproject.toml development.in; status=$$?; rm -f development.in; exit $$status

clean: ## Remove .venv and what the tools left behind
	@echo "clean: removes .venv, caches and builds"
	@rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache development.in
	@find dashboards longshore schemas services tests -name __pycache__ -prune -exec rm -rf {} +

# The file says that the environment is complete: an installation that fails or is interrupted leaves none behind.
$(READY): constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) on PATH: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.platform.startswith("linux") or sys.exit("make: Longshore runs on Linux only, and this is " + sys.platform)'
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("make: $(PYTHON) is Python %d.%d: install 3.11 or newer, or name one: make PYTHON=/path/to/python" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) comes without venv: install it (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo ".venv: installs every package at its pinned version (about a minute)"
	@test -e $(READY) || rm -rf .venv
	@rm -f $(READY)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) --require-hashes --requirement constraints.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(READY)
