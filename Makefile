# The two commands of the README are `make quickstart` and `make test`; each sets up .venv itself. Needs Python >= 3.10 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOWEST := .venv-lowest
READY  := $(VENV)/.ready

.PHONY: help setup quickstart test check native format test-interpret test-lowest test-gpu gpu-pass lists bench serve clean
.DELETE_ON_ERROR:

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 20

NATIVE := src/foveal/ops/native

$(READY): pyproject.toml constraints.txt $(wildcard $(NATIVE)/*.h $(NATIVE)/*.cpp)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(READY) ## .venv with the pinned versions

quickstart: $(READY) ## the main job: train, evaluate, predict and explain on real images, in minutes
	$(BIN)/foveal quickstart

# Threads that wait sleep at once: several processes share the cores here, where spinning takes them from those that work.
test test-interpret test-lowest: export OMP_WAIT_POLICY ?= PASSIVE
test: $(READY) ## the test suite
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4
	$(MAKE) test-interpret

check: $(READY) ## lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

native: $(READY) ## build the C++ kernels again, after a change to them
	rm -rf build $(NATIVE)/_kernels*
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@ls $(NATIVE)/_kernels* >/dev/null 2>&1 || { echo "The kernels were not built: $(BIN)/python -m pip install -v --no-build-isolation --no-deps -e . says why."; exit 1; }

format: $(READY) ## put the code into its format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environment and caches
	rm -rf $(VENV) $(LOWEST) build src/foveal/ops/native/_kernels* .pytest_cache .mypy_cache .ruff_cache src/*.egg-info

test-interpret: $(READY) ## the Triton kernels in a process of Triton's interpreter (no GPU needed)
	TRITON_INTERPRET=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 tests/interpret

$(LOWEST)/.ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade pip
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[dev]'
	@touch $@

test-lowest: $(LOWEST)/.ready ## the test suite with the lowest versions that pyproject.toml allows (Python 3.11 or 3.12)
	$(LOWEST)/bin/python -m pytest --numprocesses auto --maxprocesses 4
	TRITON_INTERPRET=1 $(LOWEST)/bin/python -m pytest --numprocesses auto --maxprocesses 4 tests/interpret

test-gpu: ## the operators and models on a CUDA device, with the Python that has it (PYTHON=...)
	PYTHONPATH=src $(PYTHON) -m pytest -m gpu tests/gpu

gpu-pass: ## every kernel checked and the networks timed in nine minutes on a GPU, with the Python that has it (PYTHON=...)
	$(PYTHON) benchmarks/gpu_pass.py

lists: $(READY) ## the stored lists of models and recipes, after a change to one of them
	$(BIN)/python -m foveal.cli.lists.write

bench: $(READY) ## speed of operators and models next to timm's peers, in one interleaved run
	$(BIN)/foveal bench models,ops --peers

serve: $(READY) ## an HTTP server of an exported classifier (FILE=...), as examples/serving describes
	$(BIN)/python examples/serving/serve.py $(FILE)
