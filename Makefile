# Two commands do everything on a fresh machine: `make sweep` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STUDY  ?= sweeps/demo.yaml
PORT   ?= 5000

.PHONY: help install sweep test lint types unit unit-ray unit-rest cluster-test cluster-story ui clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# The exact pins matter most for torch: an open range may bring gigabytes of another build. pip would
# compile on one core; some packages bring files for other Pythons, which can't be compiled.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "weam_ray needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

install: $(VENV)/.installed  ## make the environment and install the package with its pinned versions

sweep: install  ## run the study STUDY (default: sweeps/demo.yaml) and write its report
	$(BIN)/python -m weam_ray.sweep $(STUDY)

test: install lint  ## lint, types and tests
	@$(MAKE) --no-print-directory --keep-going --jobs=3 types unit-ray unit-rest

lint: install  ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## mypy, strict
	$(BIN)/mypy

# Two halves side by side, since what starts Ray waits for its processes much of the time. Their
# markers are each other's opposite: whatever test is added is in exactly one of them.
unit: install  ## pytest, without the tests that bring up hosts of their own
	@$(MAKE) --no-print-directory --keep-going --jobs=2 unit-ray unit-rest

ALONE := not cluster and not network
# Threads that wait for each other by spinning are no use where two processes share two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

unit-ray unit-rest: SHELL := /bin/bash
unit-ray unit-rest: .SHELLFLAGS := -o pipefail -c

unit-ray: install  ## of these, the half that starts Ray and takes long
	@$(PYTEST) -m "ray and slow and $(ALONE)" -o cache_dir=.pytest_cache/ray 2>&1 | sed -u 's/^/ray:  /'

unit-rest: install  ## of these, the other half
	@$(PYTEST) -m "not (ray and slow) and $(ALONE)" -o cache_dir=.pytest_cache/rest 2>&1 | sed -u 's/^/rest: /'

cluster-test: install  ## ray up, faults and Slurm on hosts made of namespaces (root, sshd, iproute2, rsync)
	$(BIN)/python -m pytest -m cluster tests/cluster

cluster-story: install  ## of these, what CI runs: ray up, a study on two hosts, its report, ray down
	$(BIN)/python -m pytest -m "cluster and not thorough" tests/cluster

ui: install  ## the MLflow page of the studies in storage/, on loopback
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow server --workers 1 --host 127.0.0.1 --port $(PORT) --backend-store-uri sqlite:///$(CURDIR)/storage/mlflow.db

clean:  ## remove the environment (studies in storage/ stay)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
