# A fresh machine needs Python 3.11 or newer, pip and make:  make demo,  make test.
PYTHON ?= python3
EXTRAS ?= dev
comma := ,
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet -c constraints.txt
STAMP := $(VENV)/.reverie-$(subst $(comma),-,$(EXTRAS))
DOCS := $(VENV)/.reverie-docs
WORKERS ?= 2

# One thread a process: two busy threads on a small shared machine can be twenty times slower than one.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test kill check-estimators lint types format check docs bench readme golden clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##\(.*\)/make \1\t\2/p' Makefile | expand -t 24

setup: $(STAMP)  ## the environment in .venv, at the versions of constraints.txt

demo: $(STAMP)  ## a VAE against a VAE with a memory, on real handwriting
	@$(VENV)/bin/reverie demo

test: lint types $(STAMP)  ## style, types, then every test
	@$(ONE_THREAD) $(PY) -m pytest -q -n $(WORKERS) --dist worksteal

kill: $(STAMP)  ## twenty kills of a training, each resumed: the weights must be those of a run left alone
	@REVERIE_KILLS=20 $(ONE_THREAD) $(PY) -m pytest -q -n 0 tests/test_kill.py

check-estimators: $(STAMP)  ## scikit-learn's own checks of every estimator of reverie.sklearn
	@REVERIE_ESTIMATORS=all $(ONE_THREAD) $(PY) -m pytest -q -n $(WORKERS) tests/test_sklearn_checks.py

check: test docs  ## everything that must hold before a release

lint: $(STAMP)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(STAMP)
	@$(PY) -m mypy

format: $(STAMP)  ## put the code in the house's form
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: $(DOCS)  ## the pages, in docs/_build/html
	@$(ONE_THREAD) $(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(STAMP)  ## speed beside the matrix products alone, a bare loop and peers
	@$(PY) benchmarks/steps.py --out results/bench/steps.json
	@$(PY) benchmarks/boltzmann.py --out results/bench/boltzmann.json
	@$(PY) benchmarks/parzen.py --out results/bench/parzen.json
	@$(PY) benchmarks/implicit.py --out results/bench/implicit.json
	@$(PY) benchmarks/autoregressive.py --out results/bench/autoregressive.json
	@$(PY) benchmarks/ntm.py --out results/bench/ntm.json
	@$(PY) benchmarks/memn2n.py --out results/bench/memn2n.json

readme: $(STAMP)  ## put the tables of results/ into README.md
	@$(PY) docs/readme.py

golden: $(STAMP)  ## regenerate what tests compare with; read the difference before committing it
	@$(PY) -m reverie.models
	@$(PY) -m pytest -q -n 0 --golden tests

clean:  ## what was made, but not .venv and not runs
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis dist docs/_build docs/gallery docs/models \
		docs/sg_execution_times.rst
	@find src tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A changed pyproject.toml or constraints.txt sets up again; unchanged packages cost seconds.
$(STAMP): pyproject.toml constraints.txt | $(PY)
	@echo "Setting up $(VENV) (about a gigabyte, once) ..." >&2
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation -e ".[$(EXTRAS)]"
	@touch $@

$(DOCS): $(STAMP)
	@$(PIP) --no-build-isolation -e ".[$(EXTRAS),docs]"
	@touch $@

# Debian ships Python without ensurepip: then pip is put in from outside.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
		"reverie needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); \
		$(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(VENV)/bin/python install --quiet pip; } || { rm -rf $(VENV); echo \
		"cannot make a virtual environment with $(PYTHON): install its venv module (Debian: apt install python3-venv)" \
		>&2; exit 1; }
