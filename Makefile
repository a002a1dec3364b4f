# The developer's menu. Every target sets up what it needs itself.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test quick fast engine-test engine-matrix lint format types bench bench-planner bench-sweep wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

run: $(STAMP) ## set up everything and serve a real model on a real vLLM: plan, start, answer, tokens/s, stop
	$(BIN)/nexus engine install cpu
	$(BIN)/nexus-run hardware=cpu model=smollm2_135m \
	  'probe.question="What is the capital of France?"' probe.then=stop

test: lint types fast engine-test ## everything that CI checks

quick: $(STAMP) ## what to run after each change: lint, and the tests that take no time (under two minutes)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not engine and not engine_matrix"

fast: $(STAMP) ## the tests that need no engine
	$(BIN)/python -m pytest -q -n 2 -m "not engine and not engine_matrix"

engine-test: $(STAMP) ## the tests on a real vLLM (CPU), installed first if need be
	$(BIN)/nexus engine install cpu
	$(BIN)/python -m pytest -q -m engine

engine-matrix: $(STAMP) ## the real parsers of six vLLM releases, and the main job on the oldest and the newest of them
	$(BIN)/nexus engine install cpu
	$(BIN)/nexus engine install cpu --version 0.27.1
	$(BIN)/python -m pytest -q -m engine_matrix

lint: $(STAMP) ## ruff, and the direction of the imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

format: $(STAMP) ## let ruff write the code as CI wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## the speed goals, each measured against its yardstick in the same run
	$(BIN)/nexus engine install cpu
	$(BIN)/python -m bench

bench-planner: $(STAMP) ## the planner's error on real launches, beside other formulas
	$(BIN)/python -m bench.planner

bench-sweep: $(STAMP) ## the search of a sweep on simulated machines, beside Optuna's TPE, random choice and the grid
	for world in bench/worlds/[a-z]*_*.py; do $(BIN)/python -m bench.sweep --world $$world --seeds 0-19 || exit 1; done

wheel: $(STAMP) ## build the wheel into dist/
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build --wheel

clean: ## remove what the build left (engines and models stay)
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
