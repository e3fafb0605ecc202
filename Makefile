# `make train` trains an agent on a fresh clone; `make test` runs every check; `make help` lists the rest.
# PYTHON=... (a path, a name or 3.12) chooses the interpreter of a new environment, VENV=... its folder; UV= makes do
# without uv. EXTRAS=mujoco,brax installs those extras as well.

VENV ?= .venv
PYTHON ?=
ARGS ?=
EXTRAS ?=
# Test files are shared by up to four processes, of some 4 GB each; ARGS="-n 0" runs them in one.
WORKERS := -n auto --maxprocesses 4 --dist loadfile
COMMA := ,
UV ?= $(shell command -v uv 2>/dev/null)

BIN := $(VENV)/bin
CANDIDATES := python3.11 python3.12 python3.13 python3
USABLE := import sys; assert sys.version_info >= (3, 11)$(if $(UV),,; import ensurepip, venv)
# An environment that uv made before may have no pip.
PIP = { $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip; } && $(BIN)/python -m pip
INSTALL = $(if $(UV),"$(UV)" pip install --python $(BIN)/python,$(PIP) install) -c constraints.txt

# Of each set of extras another stamp: asking for more of them installs them.
STAMP := $(VENV)/.installed$(if $(EXTRAS),-with-$(subst $(COMMA),-,$(EXTRAS)))

.DEFAULT_GOAL := install
.PHONY: install train test test-slow lint types format docs docs-serve clean distclean help

install: $(STAMP)  ## install jaxrl and its pinned dependencies into .venv (the default); EXTRAS=mujoco,brax adds those

train: $(VENV)/.installed  ## train PPO on CartPole into runs/quickstart (again from the start, if it is there)
	$(BIN)/jaxrl train ppo --env CartPole-v1 --total-steps 500000 --folder runs/quickstart --overwrite $(ARGS)

test: lint types  ## lint, check types, run the tests (ARGS="-k gae" chooses some)
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

test-slow: $(VENV)/.installed-test  ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.installed-test  ## check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed-test  ## check types
	$(BIN)/mypy

format: $(VENV)/.installed-test  ## rewrite the code as `make lint` wants it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.installed-docs  ## build the documentation as a site, into site/ (REPOSITORY=https://… is where links to code lead)
	$(BIN)/mkdocs build --strict $(ARGS)

docs-serve: $(VENV)/.installed-docs  ## show that site at http://127.0.0.1:8000 while pages are edited
	$(BIN)/mkdocs serve --livereload $(ARGS)

clean:  ## remove caches and build products
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find $(wildcard jaxrl tests experiments benchmarks) -name __pycache__ -prune -exec rm -rf {} +

distclean: clean  ## also remove .venv (runs/ stays)
	rm -rf "$(VENV)"

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

# A stamp is as new as the last installation, so nothing is installed twice.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-with-%: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-test $(VENV)/.installed-docs: $(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[$*]'
	@touch $@ $(VENV)/.installed

# The first interpreter that runs: a version manager may put a `python3.12` on PATH that only reports an error.
$(BIN)/python:
	@if [ -n "$(PYTHON)" ]; then set -- "$(PYTHON)" "python$(PYTHON)"; else set -- $(CANDIDATES); fi; \
	for candidate in "$$@"; do \
		if "$$candidate" -c '$(USABLE)' >/dev/null 2>&1; then \
			found=$$("$$candidate" -c 'import sys; print(sys.executable)'); break; \
		fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "jaxrl needs Python 3.11 or later with its venv module; tried without success: $(or $(PYTHON),$(CANDIDATES))." >&2; \
		echo "Install one, or name it: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	echo "creating $(VENV) with $$("$$found" -V) ($$found)"; \
	$(if $(UV),"$(UV)" venv --quiet --seed --allow-existing --python "$$found" "$(VENV)",\
		"$$found" -m venv "$(VENV)")
