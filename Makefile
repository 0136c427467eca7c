# `make demo` and `make test` need only Python 3.11+, make and a package index: each builds .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv is used when it happens to be installed; plain venv + pip otherwise.
UV := $(shell command -v uv 2>/dev/null)

.PHONY: demo test check lint torture fuzz bench lock clean

ifdef UV
MAKE_VENV = uv venv -q --python $(PYTHON) $(VENV)
PIP = uv pip install -q --python $(BIN)/python
else
MAKE_VENV = $(PYTHON) -m venv $(VENV)
PIP = $(BIN)/python -m pip install -q --disable-pip-version-check
endif

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rung needs Python 3.11 or newer; set PYTHON=python3.11"; exit 2; }
	@echo "creating $(VENV)"
	@$(MAKE_VENV)

$(VENV)/.run: requirements/run.lock pyproject.toml | $(BIN)/python
	@echo "installing the packages Rung runs on"
	@$(PIP) --require-hashes -r requirements/run.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.run
	@echo "installing what tests and checks need"
	@$(PIP) --require-hashes -r requirements/dev.lock
	@touch $@

demo: $(VENV)/.run
	@$(BIN)/python examples/support/demo.py

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

check: test lint

torture: $(VENV)/.dev
	@$(BIN)/python -m pytest -m torture -o addopts= -ra

# Coverage-guided fuzzing of the header readers; its packages are fetched for it and are in no lock file.
FUZZ_SECONDS ?= 60
fuzz: $(VENV)/.dev
	@$(PIP) atheris
	@for reader in gguf safetensors; do $(BIN)/python fuzz/header.py $$reader .fuzz/$$reader -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -rss_limit_mb=1024 -artifact_prefix=.fuzz/ || exit $$?; done

# The lock files are made from pyproject.toml by uv, for every platform and Python it allows.
lock: | $(BIN)/python
	@$(BIN)/python -m pip install -q uv
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header pyproject.toml requirements/build.in -o requirements/run.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header pyproject.toml --group dev -c requirements/run.lock -o requirements/dev.lock

clean:
	rm -rf $(VENV) examples/*/out examples/*/models
