# `make demo` and `make test` are all that a newcomer needs; both make .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types unit slow clean

demo: $(STAMP)
	$(BIN)/mpqdeploy run examples/digits.yaml

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Checkers do not follow the mapping of top-level folders to sub-packages: check what installs.
types: $(STAMP)
	rm -rf build
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --target build/typecheck .
	cd build/typecheck && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p mpqdeploy

# One thread a worker: the suite is many small networks, and two workers fill two cores.
unit: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

slow: $(STAMP)
	$(BIN)/pytest -m slow

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt "setuptools<81" wheel
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build
