# make demo, make test: each does its own set-up on a machine with Python 3.11 or newer; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check format clean

demo: .venv/runtime
	$(BIN)/partalign demo

test: .venv/develop
	@scripts/browser
	scripts/check
	scripts/test

check: .venv/develop
	scripts/check

format: .venv/develop
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

.venv/bin/pip:
	@echo "Installing into .venv, a few minutes the first time"
	@$(PYTHON) -m venv .venv

.venv/runtime: pyproject.toml constraints.txt | .venv/bin/pip
	@$(BIN)/pip install --quiet -c constraints.txt -e ".[torch,plot]"
	@touch $@

.venv/develop: pyproject.toml constraints.txt | .venv/bin/pip
	@$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@ .venv/runtime

clean:
	rm -rf .venv build dist src/*.egg-info
