# `make` alone lists the targets.
PYTHON ?= python3
SEEDS ?= 5
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo table-tiny benchmarks test lint tiny-models clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## create .venv and install everything into it

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.12"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		$(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP) ## five augmentations over SEEDS=5 seeds on the bundled images, one table
	$(BIN)/python run.py experiment=demo 'hydra.sweeper.params.seed="range($(SEEDS))"'

# One process per backbone on one thread each: on few cores faster than one process on all of them.
TINY := $(BIN)/python run.py experiment=table_tiny
table-tiny: $(STAMP) ## every augmentation with three small backbones over three seeds, one table
	$(TINY) stage=augment hydra.sweeper.params.backbone=small_resnet
	for backbone in small_resnet small_vit small_clip; do \
		OMP_NUM_THREADS=1 $(TINY) hydra.sweeper.params.backbone=$$backbone & done; wait
	$(TINY)

BENCHMARKS ?= generation captions training run
benchmarks: $(STAMP) ## how fast, against what others do: BENCHMARKS="generation captions training run"
	for name in $(BENCHMARKS); do $(BIN)/python -m experiments.benchmarks.$$name || exit 1; done

test: $(STAMP) ## all tests, two at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

tiny-models: $(STAMP) ## make the bundled images and models again (about two hours on a CPU)
	$(BIN)/python -m experiments.tiny_models

clean: ## remove results and generated images; the environment stays
	rm -rf artifacts results outputs
