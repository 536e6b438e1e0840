# Two commands matter: `make demo` and `make test`. Each sets up what it needs in .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SAY_VERSION := import sys; print(*sys.version_info[:3], sep=".")
VERSION := $(shell $(PYTHON) -c '$(SAY_VERSION)')
SOURCES := rangeserver tests $(wildcard bench)

.PHONY: help demo test test-all coverage check format lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo [VIDEO=file]  a page that plays and seeks sample videos, no AWS account needed"
	@echo "make test               the tests, each case once"
	@echo "make test-all           also what takes long, and each fault again and again"
	@echo "make coverage           make test, and how much of the code it runs; fails below the floor"
	@echo "make check              formatting, lint, types, layering"
	@echo "make format             fix formatting and what lint can fix"
	@echo "make lock               renew the pinned requirements"
	@echo
	@echo "With PYTHON=python3.13 they use that one; .venv is made anew when it is another."

# Through the environment: a file name may hold anything that a shell would read otherwise.
export VIDEO
demo: $(VENV)/.demo
	@$(BIN)/python -m rangeserver demo $${VIDEO:+--video "$$VIDEO"} $(if $(PORT),--port $(PORT))

# Each worker imports all tests, and tests start the command some hundred times: bytecode is kept,
# whatever the environment says.
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.dev
	$(BIN)/pytest -q -n 6 --dist worksteal $(ARGS)

test-all: export TESTS = all
test-all: test

# Also of the commands and servers that tests start. The floor is in pyproject.toml.
coverage: export PYTHONDONTWRITEBYTECODE =
coverage: $(VENV)/.dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n 4 --dist worksteal $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(VENV)/.dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# Universal: one file for every Python from 3.11 on, with hashes and without any address.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet uv
	for set in "" "--extra demo" "--extra dev"; do \
	  name=requirements$$(echo "$$set" | sed 's/--extra /-/').txt; \
	  $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header --no-annotate --upgrade \
	    --no-emit-package rangeserver $$set pyproject.toml -o $$name || exit 1; \
	done
	rm -rf $(VENV)-lock

# Which Python $(VENV) is of; another one gets a new $(VENV).
$(VENV)/.python-$(VERSION):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "rangeserver needs Python 3.11 or newer; try: make PYTHON=python3.12 ..."; exit 1; }
	@test "$$($(BIN)/python -c '$(SAY_VERSION)' 2>/dev/null)" = "$(VERSION)" \
	  || $(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.demo: requirements-demo.txt pyproject.toml $(VENV)/.python-$(VERSION)
	@echo "Installing into $(VENV), once; this takes about half a minute."
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-demo.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml $(VENV)/.python-$(VERSION)
	@echo "Installing into $(VENV), once; this takes about a minute."
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.demo

clean:
	rm -rf .venv* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
	find $(SOURCES) -name __pycache__ -exec rm -rf {} +
