# Everything runs in .venv, made from nothing by the first command that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MEDIA ?=
MODEL ?=
OUT ?= demo-output
PYTEST_ARGS ?=
COMPOSE ?= docker compose

.DEFAULT_GOAL := help
.PHONY: help demo test lint chaos bench up down smoke clean

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/installed ## Embed two sample photos and a clip; your own: make demo MEDIA="a.jpg b.mp4" MODEL=...
	@$(BIN)/python examples/demo.py --out "$(OUT)" $(if $(MODEL),--model "$(MODEL)") $(MEDIA)

test: $(VENV)/installed ## Run every test; a few: make test PYTEST_ARGS="tests/unit -k resize"
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/installed ## Check format, style, types and import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

chaos: $(VENV)/installed ## Break servers and kill workers for long (the short form is part of `make test`)
	@GLM4V_TEST_CHAOS=long $(BIN)/python -m pytest tests/integration/chaos $(PYTEST_ARGS)

bench: $(VENV)/installed ## Run the benchmarks of docs/benchmarks.md (about an hour on two cores)
	@for program in benchmarks/*.py; do echo "== $$program"; $(BIN)/python $$program || exit 1; done

up: ## Build and start the whole service with Docker, and wait until it is healthy
	@$(PYTHON) deploy/new_env.py
	@$(COMPOSE) up --detach --build
	@deploy/await-healthy $(COMPOSE)

down: ## Stop it; what it stored stays in its volumes
	@$(COMPOSE) --profile monitoring down --remove-orphans

smoke: $(VENV)/installed ## Submit sample media to it, wait, load the results and print them
	@set -a; . ./.env; GLM4V_URL="http://$$API_ADDRESS:$$API_PORT"; $(BIN)/python examples/smoke.py $(MEDIA)

clean: ## Remove .venv and every cache
	@rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# uv resolves and links the whole set in seconds where pip takes minutes.
$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "glm4v-embed needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Could not make $(VENV): on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv

$(VENV)/installed: pyproject.toml constraints.txt $(VENV)/bin/uv
	@echo "Installing into $(VENV) ..." >&2
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet -c constraints.txt --group dev -e ".[worker]"
	@touch $@
