# Every target does its own set-up. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
RUNTIME := .venv/.installed-runtime
DEV := .venv/.installed-dev
PIN_FILES := pyproject.toml constraints.txt scripts/install.sh
CODE := specbeam draft_service target_service orchestrator loadtest benchmarks tests scripts
PRESENT := $(wildcard $(CODE))
PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=

.PHONY: help
help:  ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---------------------------------------------------------------- set-up

$(RUNTIME): $(PIN_FILES)
	PYTHON=$(PYTHON) ./scripts/install.sh train
	@touch $@

$(DEV): $(PIN_FILES)
	PYTHON=$(PYTHON) ./scripts/install.sh dev
	@touch $(RUNTIME) $@

.PHONY: install
install: $(DEV)  ## Make .venv with every pinned dependency

# ---------------------------------------------------------------- use

.PHONY: demo
demo: $(RUNTIME)  ## Train a small bundle, serve it in one process and ask for recommendations
	$(BIN)/specbeam demo

# ---------------------------------------------------------------- tests

.PHONY: redis-server
redis-server: $(DEV)
	@./scripts/find_redis_server.sh >/dev/null

.PHONY: test
test: $(DEV) redis-server  ## Run every test that needs no GPU
	OMP_NUM_THREADS=1 SPECBEAM_REQUIRE_REDIS=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) -q $(PYTEST_ARGS)

.PHONY: test-fast
test-fast: $(DEV)  ## Run the tests not marked slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) -q -m "not slow" $(PYTEST_ARGS)

# ---------------------------------------------------------------- checks

.PHONY: check
check: lint typecheck check-protos check-imports check-docs k8s-validate check-docker check-yaml  ## Run every static check

.PHONY: lint
lint: $(DEV)  ## Lint and check the format of the Python code
	$(BIN)/ruff check $(PRESENT)
	$(BIN)/ruff format --check $(PRESENT)

.PHONY: fmt
fmt: $(DEV)  ## Format the Python code and mend what ruff can
	$(BIN)/ruff check --fix $(PRESENT)
	$(BIN)/ruff format $(PRESENT)

.PHONY: typecheck
typecheck: $(DEV)  ## Run mypy --strict
	$(BIN)/mypy

.PHONY: protos
protos: $(DEV)  ## Generate the gRPC stubs from protos/
	PYTHON=$(BIN)/python ./scripts/gen_protos.sh

.PHONY: check-protos
check-protos: $(DEV)  ## Lint the protos and compare the committed stubs with fresh ones
	$(BIN)/buf lint
	PYTHON=$(BIN)/python ./scripts/gen_protos.sh --check

.PHONY: check-imports
check-imports: $(DEV)  ## Test the direction of imports between packages
	$(BIN)/python -m pytest -q tests/unit/test_imports.py

.PHONY: docs
docs: $(DEV)  ## Write docs/configuration.md from the settings classes
	$(BIN)/python scripts/render_configuration.py

.PHONY: check-docs
check-docs: $(DEV)  ## Compare docs/configuration.md with the settings classes
	$(BIN)/python scripts/render_configuration.py --check

.PHONY: k8s-validate
k8s-validate: $(DEV)  ## Render k8s/ and validate it against the Kubernetes schemas
	./scripts/check_k8s.sh

.PHONY: check-docker
check-docker: $(DEV)  ## Lint the Dockerfile
	$(BIN)/hadolint --config .hadolint.yaml docker/Dockerfile

.PHONY: check-yaml
check-yaml: $(DEV)  ## Lint the YAML files
	$(BIN)/yamllint --strict .

# ---------------------------------------------------------------- benchmarks

RESULTS ?= benchmarks/results
BENCH = $(BIN)/specbeam bench

.PHONY: bench
bench: $(RUNTIME)  ## Measure searches and served requests (BUNDLE, DATASET, WIDE = the bundle at 86 M; some 15 minutes)
	@test -n "$(BUNDLE)" -a -n "$(DATASET)" || { echo "usage: make bench BUNDLE=DIR DATASET=DIR"; exit 2; }
	$(BENCH) search $(BUNDLE) --dataset $(DATASET) --threads 1 --out $(RESULTS)/search-small.json
	$(BENCH) served $(BUNDLE) --dataset $(DATASET) --out $(RESULTS)/served-small.json
	$(BENCH) search $(BUNDLE) --dataset $(DATASET) --target-shape 86m --dtype bf16 --threads 2 --requests 5 --out $(RESULTS)/search-86m-bf16.json
	$(if $(WIDE),$(BENCH) served $(WIDE) --dataset $(DATASET) --dtype bf16 --out $(RESULTS)/served-86m-bf16.json)

.PHONY: bench-overhead
bench-overhead: $(RUNTIME)  ## Measure the services' overhead at K = 10 (BUNDLE, DATASET)
	@test -n "$(BUNDLE)" -a -n "$(DATASET)" || { echo "usage: make bench-overhead BUNDLE=DIR DATASET=DIR"; exit 2; }
	$(BENCH) served $(BUNDLE) --dataset $(DATASET) --k 10 --prompts 30 --requests 60 --out $(RESULTS)/overhead-small.json

.PHONY: bench-drafters
bench-drafters: $(RUNTIME)  ## Measure every drafter and their unions (BUNDLE, DATASET; an hour)
	@test -n "$(BUNDLE)" -a -n "$(DATASET)" || { echo "usage: make bench-drafters BUNDLE=DIR DATASET=DIR"; exit 2; }
	$(BENCH) drafters $(BUNDLE) --dataset $(DATASET) --out $(RESULTS)/drafters-$(notdir $(basename $(DATASET))).json

.PHONY: bench-pareto
bench-pareto: $(RUNTIME)  ## Measure plain search, fixed and chosen trees, and auto (BUNDLE, DATASET; 20 minutes)
	@test -n "$(BUNDLE)" -a -n "$(DATASET)" || { echo "usage: make bench-pareto BUNDLE=DIR DATASET=DIR"; exit 2; }
	$(BENCH) pareto $(BUNDLE) --dataset $(DATASET) --ablation 3 --out $(RESULTS)/pareto-$(notdir $(basename $(BUNDLE))).json

.PHONY: bench-catalog
bench-catalog: $(RUNTIME)  ## Measure large random catalogues under filters (no bundle needed; some 4 minutes, 8 GB)
	$(BENCH) catalog --out $(RESULTS)/catalog-1m-4x256.json
	$(BENCH) catalog --levels 3 --codes 8192 --out $(RESULTS)/catalog-1m-3x8192.json
	$(BENCH) catalog --items 10000000 --repeats 50 --out $(RESULTS)/catalog-10m-4x256.json

.PHONY: bench-forward
bench-forward: $(RUNTIME)  ## Measure one forward against a hand-written one (no bundle needed; some 2 minutes)
	$(BENCH) forward --out $(RESULTS)/forward.json

# A bare GPU machine needs no .venv: any python with torch, transformers and numpy does.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

.PHONY: bench-gpu
bench-gpu:  ## Measure large widened targets on CUDA (BUNDLE, HISTORIES, SHAPES; TOY=1: on a CPU, 1 minute)
	$(GPU_PYTHON) -m specbeam.benchmark.gpu $(if $(TOY),--toy --out .cache/gpu-toy,--out $(RESULTS)) \
	  $(if $(BUNDLE),--bundle $(BUNDLE)) $(if $(HISTORIES),--histories $(HISTORIES)) $(if $(SHAPES),--shapes $(SHAPES))

# ---------------------------------------------------------------- load

.PHONY: loadtest
loadtest: $(DEV)  ## Load a running orchestrator (ADDRESS, USERS, DURATION; see loadtest/README.md)
	$(BIN)/specbeam loadtest --address $(or $(ADDRESS),127.0.0.1:50051) --users $(or $(USERS),8) --seconds $(or $(DURATION),20)

# ---------------------------------------------------------------- tidy

.PHONY: clean
clean:  ## Remove caches and build output (keeps .venv)
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
