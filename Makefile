# make demo and make test do all the set-up by themselves on a machine with Python 3.11+, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test lint types imports stubs stubs-check clean

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/federation demo $(DEMO_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(TEST_ARGS)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,dashboard,dev]'
	touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

stubs: $(STAMP)
	$(BIN)/python protos/generate.py

stubs-check: $(STAMP)
	$(BIN)/python protos/generate.py --check

clean:
	rm -rf $(VENV)
