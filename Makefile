# `make` alone lists the targets.
PYTHON ?= python3
SEEDS ?= 5
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup wheel demo paper-tiny benchmarks chaos test slow-tests cluster-tests lint tiny-models photo-models clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## create .venv and install everything into it

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11, 4), "Python 3.11.4 or newer is needed: make PYTHON=python3.12"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		$(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) -e ".[dev]"
	# On all cores, unlike pip; not all files of packages are of this Python.
	$(BIN)/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib >/dev/null 2>&1 || true
	touch $(STAMP)

wheel: $(STAMP) ## build dist/sgid-*.whl, which gives the command sgid where it is installed
	rm -rf build
	$(BIN)/python -m build --wheel --no-isolation

demo: $(STAMP) ## five augmentations over SEEDS=5 seeds on the bundled images, one table
	$(BIN)/python run.py experiment=demo 'hydra.sweeper.params.seed="range($(SEEDS))"'

# One process on one thread for each core: on few cores faster than one process on all of them.
PROCESSES ?= $(shell $(PYTHON) -c "import os; print(min(8, os.cpu_count()))")
paper-tiny: $(STAMP) ## the paper's tables and figures on the bundled images, into docs/results/tiny
	$(BIN)/python -m experiments.paper scale=tiny --processes $(PROCESSES)

BENCHMARKS ?= generation captions training run
benchmarks: $(STAMP) ## how fast, against what others do: BENCHMARKS="generation captions training run"
	for name in $(BENCHMARKS); do $(BIN)/python -m experiments.benchmarks.$$name || exit 1; done

chaos: $(STAMP) ## kill, stop, fill, damage: what survives, into docs/reliability.md (ten minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.chaos

# An environment that forbids files of bytecode would compile everything in each process anew.
test: $(STAMP) ## all tests but the slow ones, three at a time
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

slow-tests: $(STAMP) ## the tests that `make test` leaves out: kills, full disks, compilers (half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist loadfile

cluster-tests: $(STAMP) ## install SLURM and a local S3 (Debian, root), and run the tests that need them
	apt-get install -y --no-install-recommends slurm-wlm munge
	$(BIN)/python -m pip install --quiet 'moto[server]' s3fs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'slow or not slow' tests/cluster/test_slurm.py tests/cluster/test_storage.py

lint: $(STAMP) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

tiny-models: $(STAMP) ## make the bundled images and models again (about two hours on a CPU)
	$(BIN)/python -m experiments.models --world clothing

DEVICE ?= cpu
SCALE ?= small
photo-models: $(STAMP) ## make the models of photographs from PHOTOS=DIR (hours; on a GPU DEVICE=cuda SCALE=wide)
	@test -d "$(PHOTOS)" || { echo "PHOTOS=$(PHOTOS): must be a folder of sets, SET/SPLIT.parquet" >&2; exit 2; }
	$(BIN)/python -m experiments.models --world photographs --images "$(PHOTOS)" --device $(DEVICE) --scale $(SCALE)

clean: ## remove results and generated images; the environment stays
	rm -rf artifacts results outputs build
