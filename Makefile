# Two commands matter: `make demo` and `make test`. Each sets up what it needs in .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SAY_VERSION := import sys; print(*sys.version_info[:3], sep=".")
VERSION := $(shell $(PYTHON) -c '$(SAY_VERSION)')
SOURCES := rangeserver tests $(wildcard bench)

.PHONY: help demo test test-all coverage format lock release clean
.PHONY: check check-format check-lint check-types check-layers
.DEFAULT_GOAL := help

help:
	@echo "make demo [VIDEO=file]  a page that plays and seeks sample videos, no AWS account needed"
	@echo "make test               the tests, each case once"
	@echo "make test-all           also what takes long, and each fault again and again"
	@echo "make coverage           make test, and how much of the code it runs; fails below the floor"
	@echo "make check              formatting, lint, types, layering"
	@echo "make format             fix formatting and what lint can fix"
	@echo "make lock               renew the pinned requirements"
	@echo "make release            build the wheel and the sdist in dist/, and try them out"
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

# The hooks of pre-commit run the same four.
check: check-format check-lint check-types check-layers

check-format: $(VENV)/.dev
	$(BIN)/ruff format --check $(SOURCES)

check-lint: $(VENV)/.dev
	$(BIN)/ruff check $(SOURCES)

check-types: $(VENV)/.dev
	$(BIN)/mypy

check-layers: $(VENV)/.dev
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

# Builds without the network; then installs the wheel as a user does, in a virtual environment of its
# own. Uploads nothing.
release: TRIAL := $(VENV)-release
release: $(VENV)/.dev
	rm -rf dist $(TRIAL)
	$(BIN)/python -m tests.distributions dist
	RELEASED=dist $(BIN)/pytest -q tests/test_distributions.py tests/test_changelog.py
	$(PYTHON) -m venv $(TRIAL)
	$(TRIAL)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(TRIAL)/bin/pip install --quiet --disable-pip-version-check --no-index --no-deps dist/*.whl
	$(TRIAL)/bin/pip check
	$(TRIAL)/bin/rangeserver --version
	$(TRIAL)/bin/rangeserver config | cmp - config.toml
	rm -rf $(TRIAL)
	@ls -l dist

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
