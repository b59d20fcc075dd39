# The interface of the repository: people and CI call these targets and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
HOME_DIR ?= runs

export OMP_NUM_THREADS = 1
export OMP_WAIT_POLICY = passive

.PHONY: help demo install test check bench honesty report clean

help:  ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes the first time) ..."
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "diffsweep needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed  ## Create .venv with everything in it

demo: install  ## Run the quickstart experiment: real digits, Ray, MLflow, a verdict
	DIFFSWEEP_HOME=$(HOME_DIR) $(BIN)/diffsweep run experiments/quickstart.yaml

report: install  ## Write the quickstart's report again
	DIFFSWEEP_HOME=$(HOME_DIR) $(BIN)/diffsweep report experiments/quickstart.yaml

test: install  ## All tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: install  ## ruff, mypy, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: install  ## Overheads and speed, as ratios against named peers, into BENCHMARKS.md
	$(BIN)/python -m tests.benchmarks --write

honesty: install  ## The certificate: how often reports claim what is not so, simulated (an hour)
	$(BIN)/python -m tests.honesty

clean:  ## Remove what make made, runs/ excepted
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .grimp_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
