# Every target sets up what it needs: an environment of this project's own in .venv, with the versions of the lock.

PYTHON ?= python3.11
UV_VERSION := 0.13.9

VENV := .venv
BIN := $(VENV)/bin
SET_UP := $(VENV)/.set-up

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(SET_UP) ## Make .venv with the exact versions of requirements.lock

$(SET_UP): requirements.lock setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --requirements requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

.PHONY: demo
demo: $(SET_UP) ## The whole way, on a small collection that is drawn and served here
	$(BIN)/python -m demo

# $(call need,NAMES,PAGE): stops where a variable is not given.
need = $(foreach name,$(1),$(if $($(name)),,$(error give $(name)=…, see $(2))))

PORT ?= 6006

.PHONY: tensorboard
tensorboard: $(SET_UP) ## TensorBoard on this machine: RUN=DIR, a run or a directory of runs, PORT=6006
	$(call need,RUN,README.md)
	$(BIN)/tensorboard --logdir "$(RUN)" --host localhost --port $(PORT)

MACHINE_TYPE ?= n1-standard-4
DISK_SIZE_GB ?= 50
MAX_WORKERS ?= 4

ON_DATAFLOW = --runner DataflowRunner --project $(PROJECT) --region $(REGION) \
	--temp_location gs://$(BUCKET)/dataflow/tmp --staging_location gs://$(BUCKET)/dataflow/staging \
	--max_num_workers $(MAX_WORKERS) --machine_type $(MACHINE_TYPE) --disk_size_gb $(DISK_SIZE_GB) \
	$(if $(IMAGE),--sdk_container_image $(IMAGE),--setup_file ./setup.py) \
	$(if $(NETWORK),--network $(NETWORK)) $(if $(SUBNETWORK),--subnetwork $(SUBNETWORK))

.PHONY: dataflow-ingest
dataflow-ingest: $(SET_UP) ## Ingest on Dataflow: PROJECT=… REGION=… BUCKET=… ARGS='--source …' (see deploy/dataflow)
	$(call need,PROJECT REGION BUCKET ARGS,deploy/dataflow/README.md)
	$(BIN)/python -m beam_pipelines.ingest $(ON_DATAFLOW) $(ARGS)

.PHONY: dataflow-embed
dataflow-embed: $(SET_UP) ## Embed on Dataflow: as dataflow-ingest, with IMAGE=… that has TensorFlow, ARGS='--dataset …'
	$(call need,PROJECT REGION BUCKET IMAGE ARGS,deploy/dataflow/README.md)
	$(BIN)/python -m beam_pipelines.embed $(ON_DATAFLOW) --experiments no_use_multiple_sdk_containers $(ARGS)

FLINK_MASTER ?= 127.0.0.1:18081
TASK_MANAGERS ?= 2
ON_FLINK = --runner FlinkRunner --flink_master $(FLINK_MASTER) \
	--flink_job_server_jar "$$($(BIN)/python -m deploy.flink job-server)"

.PHONY: flink-up
flink-up: $(SET_UP) ## Start a Flink cluster on this machine: TASK_MANAGERS=2 (see deploy/flink)
	$(BIN)/python -m deploy.flink up --task_managers $(TASK_MANAGERS)

.PHONY: flink-down
flink-down: $(SET_UP) ## End that cluster
	$(BIN)/python -m deploy.flink down

.PHONY: flink-ingest
flink-ingest: $(SET_UP) ## Ingest on a Flink cluster: ARGS='--source …' FLINK_MASTER=HOST:PORT, by default that cluster
	$(call need,ARGS,deploy/flink/README.md)
	$(BIN)/python -m beam_pipelines.ingest $(ON_FLINK) $(ARGS)

.PHONY: flink-embed
flink-embed: $(SET_UP) ## Embed on a Flink cluster: ARGS='--dataset …', otherwise as flink-ingest
	$(call need,ARGS,deploy/flink/README.md)
	$(BIN)/python -m beam_pipelines.embed $(ON_FLINK) $(ARGS)

.PHONY: test
test: $(SET_UP) ## Run the tests
	$(BIN)/python -m pytest -m "not engine" --numprocesses auto --dist loadfile --no-loadscope-reorder

.PHONY: test-fast
test-fast: $(SET_UP) ## Run the tests that need no process of their own
	$(BIN)/python -m pytest -m "not engine and not slow" --numprocesses auto --dist loadfile --no-loadscope-reorder

.PHONY: test-engines
test-engines: $(SET_UP) ## Run the tests on real engines (root on Debian: what is missing is installed)
	command -v java && command -v mvn || { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
		apt-get install -q --yes --no-install-recommends openjdk-17-jre-headless maven; }
	$(BIN)/python -m pytest -m engine

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
