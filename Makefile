# `make help` lists the targets. Every target that needs the virtual environment sets it up first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CUDA := $(VENV)/.cuda
DOCS := .venv-docs
SOURCES := pipeline components trainer tests docs/hooks
# The locked wheels run with glibc 2.28 (Debian 10, RHEL 8, Ubuntu 20.04) and newer.
LOCK := $(BIN)/uv pip compile --generate-hashes --no-emit-index-url --quiet --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28

.PHONY: help demo test test-long test-flink test-fast soak image-run slips gpu bench docs reference lint format lock clean
.DEFAULT_GOAL := help

help: ## Show this help.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: $(READY) $(if $(GPU),$(CUDA)) ## Run the whole pipeline on the embedded sample (GPU=1: install CUDA's libraries first).
	$(BIN)/nnclr run --preset sample

test: $(READY) ## Run the tests.
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-long: $(READY) ## Run further cases and combinations of what `make test` tests (20 minutes).
	$(BIN)/pytest -m long --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-flink: $(READY) ## Run the tests of Beam engines on Flink (FLINK_JOB_SERVER_JAR=JAR: Beam's job server; needs Java).
	$(BIN)/python -m tests.flink "$(FLINK_JOB_SERVER_JAR)" tests/pipeline/engine

test-fast: $(READY) ## Run the tests that need neither a pipeline nor a process nor a training (under a minute).
	$(BIN)/python -m pytest -p tests.fast --numprocesses 2 --dist loadfile

soak: $(READY) ## Disturb real processes in random ways for MINUTES=60, SEED=n; the table is in soak.md (ONLY="NAME ...": some).
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))
	$(if $(ONLY)$(SOAK_PLANT),,$(BIN)/pytest -m soak)

image-run: $(READY) ## Run a pipeline with each step in a container of IMAGE (ENGINE=podman: instead of docker; needs root).
	$(BIN)/python -m tests.pipeline.kubeflow.image_run --image $(or $(IMAGE),nnclr:latest) --engine "$(or $(ENGINE),docker)"

slips: $(READY) ## Apply the deliberate mistakes in tests/slips: a named test must catch each (WORDS=push.py: only some).
	$(BIN)/python -m tests.slips $(WORDS)

gpu: $(CUDA) ## Install CUDA's libraries into the environment, for NVIDIA GPUs (3 GB).

bench: $(READY) ## Measure the speed (an hour; PEER=a Python with torch and lightly: compare with PyTorch).
	$(BIN)/python -m tests.benchmarks $(if $(PEER),--peer $(PEER))

docs: $(DOCS)/.ready ## Build the documentation as web pages in site/ (installs only the packages for this).
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict
	@echo "Open site/index.html."

reference: $(READY) ## Generate the reference in docs/settings.md and the JSON schema of the settings.
	$(BIN)/python -m pipeline.settings_reference

lint: $(READY) ## Check style, types, layering, common security mistakes, the container image and the manifests.
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint infra/Dockerfile
	for overlay in infra/kubernetes/overlays/* infra/kubernetes/several-machines infra/kubernetes/workflow-controller \
		infra/kubernetes/writable-checkpoints infra/kubernetes/mlflow-upgrade; do \
		manifests=$$($(BIN)/kubectl kustomize $$overlay) || exit 1; \
		echo "$$manifests" | $(BIN)/kubernetes-validate --strict --quiet /dev/stdin || exit 1; \
	done

format: $(READY) ## Format the sources.
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lock: $(READY) ## Resolve the dependencies to their newest versions and write the lock files.
	$(LOCK) --upgrade pyproject.toml --output-file requirements.lock
	$(LOCK) --upgrade pyproject.toml --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(LOCK) --upgrade --group docs --output-file requirements-docs.lock
	$(LOCK) --upgrade --no-deps infra/cpu.in --output-file infra/cpu.lock
	$(LOCK) --upgrade infra/gpu.in --output-file infra/gpu.lock

clean: ## Remove the virtual environment and all caches.
	rm -rf $(VENV) $(DOCS) site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# This file also records that CUDA's libraries are wanted: an update of the environment then keeps them.
$(CUDA): $(READY) infra/gpu.lock
	$(BIN)/uv pip install --quiet --require-hashes --requirement infra/gpu.lock
	@touch $@

$(READY): requirements-dev.lock pyproject.toml
	@infra/require_platform.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements-dev.lock $(if $(wildcard $(CUDA)),infra/gpu.lock)
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DOCS)/.ready: requirements-docs.lock
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-docs.lock
	@touch $@
