# Two commands do everything on a fresh machine: `make sweep` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STUDY  ?= sweeps/demo.yaml
PORT   ?= 5000

.PHONY: help install sweep test lint types unit cluster-test ui clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# The exact pins matter most for torch: an open range may bring gigabytes of another build.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "weam_ray needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed  ## make the environment and install the package with its pinned versions

sweep: install  ## run the study STUDY (default: sweeps/demo.yaml) and write its report
	$(BIN)/python -m weam_ray.sweep $(STUDY)

test: install lint types unit  ## lint, types and tests

lint: install  ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## mypy, strict
	$(BIN)/mypy

unit: install  ## pytest, without the tests that bring up hosts of their own
	$(BIN)/python -m pytest -m "not cluster and not network"

cluster-test: install  ## ray up on hosts made of network namespaces (root, sshd, iproute2, rsync)
	$(BIN)/python -m pytest -m cluster

ui: install  ## the MLflow page of the studies in storage/, on loopback
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow server --workers 1 --host 127.0.0.1 --port $(PORT) --backend-store-uri sqlite:///$(CURDIR)/storage/mlflow.db

clean:  ## remove the environment (studies in storage/ stay)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
