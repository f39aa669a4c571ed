# Two targets do all the set-up: `make demo` and `make test`. See `make help`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := pipeline components trainer tests
LOCK := $(BIN)/uv pip compile --generate-hashes --no-emit-index-url --quiet --python-version 3.11

.PHONY: help demo test bench lint format lock clean
.DEFAULT_GOAL := help

help: ## Show this help.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/'

demo: $(READY) ## Run the whole pipeline on the embedded sample.
	$(BIN)/nnclr run --preset sample

test: $(READY) ## Run the tests.
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

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
	$(LOCK) --upgrade infra/gpu.in --output-file infra/gpu.lock

clean: ## Remove the virtual environment and all caches.
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(READY): requirements-dev.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
		echo "nnclr needs Python 3.11, and there is no $(PYTHON) on the PATH: install it, or run make PYTHON=/path/to/python3.11."; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "nnclr needs Python 3.11, and $(PYTHON) is `$(PYTHON) --version`: run make PYTHON=/path/to/python3.11."; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements-dev.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
