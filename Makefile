# `make demo` and `make test` need Python 3.11 or newer (with venv) and make; all else they install into .venv.
PYTHON ?= python3
INPUT ?=
BIN := .venv/bin

.PHONY: demo test test-all lint clean

.venv/ready: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is %d.%d. Name another: make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,dev]'
	@touch $@

# PyTorch with NVIDIA's libraries, some 3 GB: without it the tests that need it are skipped.
.venv/torch: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch]'
	@touch $@

demo: .venv/ready
	@$(BIN)/agentplatform demo $(if $(INPUT),--input "$(INPUT)")

test: .venv/ready lint
	$(BIN)/pytest -n auto --dist worksteal -m "not slow"

test-all: .venv/torch lint
	$(BIN)/pytest -n auto --dist worksteal

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv demo-output falcon-output build dist *.egg-info
