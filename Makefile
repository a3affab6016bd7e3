# make demo, make test, make bench; VENV=path uses an existing environment and installs nothing.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
WORKERS ?= auto

ifeq ($(origin VENV),file)
SETUP := $(VENV)/.installed
SETUP_DEV := $(VENV)/.installed-dev
endif

.PHONY: demo test lint format bench clean

demo: $(SETUP)
	$(RUN) -m src.sweep configs/demo.yaml

test: lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) tests

lint: $(SETUP_DEV)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

format: $(SETUP_DEV)
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

bench: $(SETUP)
	$(RUN) -m benchmarks

$(VENV)/.installed: requirements.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt requirements-cluster.txt requirements-dp.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
