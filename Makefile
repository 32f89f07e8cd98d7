# Every target sets itself up in .venv; all it takes is Python 3.11 to 3.13, make and a package index.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench index

help:
	@echo "make demo   train a DCGAN on drawn digits for six minutes and show where its images are"
	@echo "make test   the whole test suite"
	@echo "make lint   ruff and mypy"
	@echo "make bench  milliseconds a training step, for each model"
	@echo "make index  write index, tables and cards anew, after a recipe or an entry has changed"

demo: .venv/core
	$(BIN)/keras-genai train dcgan --data digits --minutes 6
	@echo "(After \`. .venv/bin/activate\` the command keras-genai is found by its name.)"

test: .venv/dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/core
	$(BIN)/python benchmarks/step_time.py

index: .venv/core
	$(BIN)/python -m keras_genai.zoo

# Stamps: the second call of a target installs nothing, unless the dependencies have changed.
.venv/made:
	@command -v $(PYTHON) > /dev/null || \
		{ echo "Python 3.11 to 3.13 is needed; name it with PYTHON=. Received: PYTHON=$(PYTHON)"; exit 1; } >&2
	@# TensorFlow has no package for later versions yet.
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("Python 3.11 to 3.13 \
	is needed; name one with, for example, PYTHON=python3.12. Received: " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/core: .venv/made setup.cfg pyproject.toml
	@echo "Installing keras_genai into .venv; the first time this takes a few minutes."
	@$(PIP) --editable .
	@touch $@

.venv/dev: .venv/made setup.cfg pyproject.toml
	@echo "Installing keras_genai and its tools into .venv; the first time this takes a few minutes."
	@$(PIP) --editable ".[dev]"
	@touch $@ .venv/core
