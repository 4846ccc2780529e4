# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-fast check e2e bench soak docs clean
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(STAMP) ## create the virtual environment and install everything pip can bring

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## the main job on the embedded devnet, from nothing, in about a minute
	@$(BIN)/python -m examples.demo

test: check ## every suite
	$(BIN)/python -m pytest -n 4 --dist worksteal

test-fast: $(STAMP) ## what one wants after every edit
	$(BIN)/python -m pytest -n 2 -m 'not slow' tests/unit tests/property tests/contract

check: $(STAMP) ## style, types, doctests and the house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## performance, side by side with a peer, printed as ratios
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python bench/run.py

soak: $(STAMP) ## what takes longer than a test run may; figures go to docs/explanation/soak.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,fuzz]'
	RECONCILER_SOAK=1 $(BIN)/python -m pytest -n 0 -s tests/soak

docs: $(STAMP) ## regenerate the reference pages from the code and the schemas
	COLUMNS=80 $(BIN)/python -c 'from reconciler.cli.main import run; run(["--help"])' > .help.txt
	mv .help.txt reconciler/cli/help.txt
	$(BIN)/python docs/generate.py

clean: ## remove everything that was generated
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
