# Every target sets up what it needs: an environment of this project's own in .venv, with the versions of the lock.

PYTHON ?= python3.11
UV_VERSION := 0.13.9

VENV := .venv
BIN := $(VENV)/bin
SET_UP := $(VENV)/.set-up

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(SET_UP) ## Make .venv with the exact versions of requirements.lock

$(SET_UP): requirements.lock setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirements requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

.PHONY: demo
demo: $(SET_UP) ## The whole way, on a small collection that is drawn and served here
	$(BIN)/python -m demo

.PHONY: test
test: $(SET_UP) ## Run the tests
	$(BIN)/python -m pytest -m "not engine" --numprocesses auto --dist loadfile

.PHONY: test-fast
test-fast: $(SET_UP) ## Run the tests that need no process of their own
	$(BIN)/python -m pytest -m "not engine and not slow" --numprocesses auto --dist loadfile

.PHONY: test-engines
test-engines: $(SET_UP) ## Run the tests on real engines (root on Debian; nothing to do yet)
	@echo "no engine is in use yet"

.PHONY: lint
lint: $(SET_UP) ## Check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: format
format: $(SET_UP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: lock
lock: $(SET_UP) ## Resolve the newest versions that go together into requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --all-extras --generate-hashes \
		--no-header --output-file requirements.lock setup.py

.PHONY: clean
clean: ## Delete what was made here
	rm -rf $(VENV) demo-output build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
