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

# What all stages of one's own data share: my.env has the variables below, a line each, `NAME = value`.
ifdef CONFIG
include $(CONFIG)
endif

WORK ?= work
DATASET ?= $(WORK)/dataset
EMBEDDINGS ?= $(WORK)/embeddings
RUN ?= $(WORK)/run
MODEL ?= $(WORK)/model/1
PREDICTIONS ?= $(WORK)/predictions
TRAINED_ON = $(if $(EMBED_ARGS),$(EMBEDDINGS),$(DATASET))
PREDICT_ARGS ?= $(if $(ARGS),,--source tfrecord --input "$(DATASET)/validation-*.tfrecord")

# The other stages find by themselves that they are done.
AS_A_STAGE = --no-print-directory SKIP_EXISTING=--skip_existing

.PHONY: all
all: $(SET_UP) ## Ingest, embed, train, evaluate, export and predict: CONFIG=my.env (see README.md)
	$(call need,INGEST_ARGS,README.md)
	@$(MAKE) $(AS_A_STAGE) ingest
	@$(if $(EMBED_ARGS),$(MAKE) $(AS_A_STAGE) embed)
	@$(MAKE) $(AS_A_STAGE) train
	@$(MAKE) $(AS_A_STAGE) evaluate
	@$(MAKE) $(AS_A_STAGE) export
	@$(MAKE) $(AS_A_STAGE) predict

.PHONY: labels
labels: $(SET_UP) ## See what a catalogue offers: ARGS='--source … --input …'
	$(BIN)/python -m beam_pipelines.labels $(LABELS_ARGS) $(BEAM_ARGS) $(ARGS)

.PHONY: ingest
ingest: $(SET_UP) ## Make a data set: ARGS='--source … --input …' DATASET=work/dataset
	$(BIN)/python -m beam_pipelines.ingest --output "$(DATASET)" $(INGEST_ARGS) $(BEAM_ARGS) $(ARGS)

.PHONY: embed
embed: $(SET_UP) ## Turn its pictures into vectors: ARGS='--backbone …' EMBEDDINGS=work/embeddings
	$(BIN)/python -m beam_pipelines.embed --dataset "$(DATASET)" --output "$(EMBEDDINGS)" $(EMBED_ARGS) $(BEAM_ARGS) $(ARGS)

.PHONY: train
train: $(SET_UP) ## Train on either: ARGS='--model …' RUN=work/run (of vectors: DATASET=work/embeddings)
	$(BIN)/python -m trainer.task --dataset "$(TRAINED_ON)" --output "$(RUN)" $(TRAIN_ARGS) $(ARGS)

.PHONY: evaluate
evaluate: $(SET_UP) ## Say how good a run is: RUN=work/run
	$(BIN)/python -m trainer.evaluate --run "$(RUN)" $(SKIP_EXISTING) $(EVALUATE_ARGS) $(ARGS)

.PHONY: export
export: $(SET_UP) ## Make a run one SavedModel: MODEL=work/model/1
	$(BIN)/python -m trainer.export --run "$(RUN)" --output "$(MODEL)" $(SKIP_EXISTING) $(EXPORT_ARGS) $(ARGS)

.PHONY: predict
predict: $(SET_UP) ## Predict the classes of many pictures: ARGS='--source … --input …' PREDICTIONS=work/predictions
	$(BIN)/python -m beam_pipelines.batch_predict --model "$(MODEL)" --output "$(PREDICTIONS)" $(PREDICT_ARGS) $(BEAM_ARGS) $(ARGS)

.PHONY: classify
classify: $(SET_UP) ## Predict the classes of a few pictures: PICTURES='a.jpg https://…'
	$(call need,PICTURES,README.md)
	$(BIN)/python -m serving.classify --model "$(MODEL)" $(PICTURES) $(CLASSIFY_ARGS) $(ARGS)

PORT ?= 6006

.PHONY: tensorboard
tensorboard: $(SET_UP) ## TensorBoard on this machine: RUN=work/run, or a directory of runs, PORT=6006
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

.PHONY: dataflow-predict
dataflow-predict: $(SET_UP) ## Predict on Dataflow: as dataflow-embed, ARGS='--model gs://… --source … --output …'
	$(call need,PROJECT REGION BUCKET IMAGE ARGS,deploy/dataflow/README.md)
	$(BIN)/python -m beam_pipelines.batch_predict $(ON_DATAFLOW) --experiments no_use_multiple_sdk_containers $(ARGS)

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

.PHONY: flink-predict
flink-predict: $(SET_UP) ## Predict on a Flink cluster: ARGS='--model … --source … --output …', otherwise as flink-ingest
	$(call need,ARGS,deploy/flink/README.md)
	$(BIN)/python -m beam_pipelines.batch_predict $(ON_FLINK) $(ARGS)

.PHONY: test
test: $(SET_UP) ## Run the tests
	$(BIN)/python -m pytest -m "not engine" --numprocesses auto --dist loadfile --no-loadscope-reorder

.PHONY: test-fast
test-fast: $(SET_UP) ## Run the tests that need neither a process of their own nor a model
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
