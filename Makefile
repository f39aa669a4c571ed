# Two targets do all the set-up: `make demo` and `make test`. See `make help`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CUDA := $(VENV)/.cuda
SOURCES := pipeline components trainer tests
# The oldest glibc that the locked wheels run on: 2.28, of Debian 10, RHEL 8 and Ubuntu 20.04.
LOCK := $(BIN)/uv pip compile --generate-hashes --no-emit-index-url --quiet --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28

.PHONY: help demo test test-fast soak slips gpu bench lint format lock clean
.DEFAULT_GOAL := help

help: ## Show this help.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: $(READY) $(if $(GPU),$(CUDA)) ## Run the whole pipeline on the embedded sample (GPU=1: with CUDA's libraries).
	$(BIN)/nnclr run --preset sample

test: $(READY) ## Run the tests.
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-fast: $(READY) ## Run the tests that take less than a minute together, without pipelines, processes and trainings.
	$(BIN)/python -m pytest -p tests.fast --numprocesses 2 --dist loadfile

soak: $(READY) ## Run the tests that repeat at length what `make test` proves with less: weeks of retraining, long races.
	$(BIN)/pytest -m soak

slips: $(READY) ## Make some fifty deliberate mistakes, one by one, and demand that a named test fails (WORDS=: only some).
	$(BIN)/python -m tests.slips $(WORDS)

gpu: $(CUDA) ## Add CUDA's libraries to the environment, for NVIDIA GPUs (3 GB).

bench: $(READY) ## Measure speed: the textbook, peers, the machine's limit (an hour; PEER=python with torch, lightly).
	$(BIN)/python -m tests.benchmarks $(if $(PEER),--peer $(PEER))

lint: $(READY) ## Check style, types, layering, container image and manifests.
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint infra/Dockerfile
	for overlay in infra/kubernetes/overlays/* infra/kubernetes/several-machines; do \
		manifests=$$($(BIN)/kubectl kustomize $$overlay) || exit 1; \
		echo "$$manifests" | $(BIN)/kubernetes-validate --strict --quiet /dev/stdin || exit 1; \
	done

format: $(READY) ## Rewrite the sources in the project's style.
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lock: $(READY) ## Resolve the dependencies anew and write the lock files.
	$(LOCK) --upgrade pyproject.toml --output-file requirements.lock
	$(LOCK) --upgrade pyproject.toml --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(LOCK) --upgrade --no-deps infra/cpu.in --output-file infra/cpu.lock
	$(LOCK) --upgrade infra/gpu.in --output-file infra/gpu.lock

clean: ## Remove the virtual environment and all caches.
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# Also the record that CUDA's libraries were asked for: the environment keeps them when its packages change.
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
