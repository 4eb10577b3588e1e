# The commands of the project. All of them work in .venv, inside this clone; nothing is installed anywhere else.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= stories:
BASE ?= gpt2
OUT ?= models/mine

.PHONY: setup bot console train test check format clean

setup: .venv/.ready

# What people need. Made again only when pyproject.toml changed; a broken install leaves no mark and is tried again.
.venv/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up .venv (a few minutes, once) ..." >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade-strategy only-if-needed -e . >&2
	@echo "Compiling for this processor (half a minute at most, once) ..." >&2
	@$(BIN)/python -c 'from bot.engine.cpu_compile import compile_step; compile_step()' || echo "That failed; the bot will say what follows from it." >&2
	@touch $@

.venv/.ready-dev: .venv/.ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' >&2
	@touch $@

bot: .venv/.ready
	@exec $(BIN)/python -m bot

console: .venv/.ready
	@exec $(BIN)/python -m bot console

train: .venv/.ready
	@exec $(BIN)/python -m trainer train --data $(DATA) --base $(BASE) --out $(OUT)

test: .venv/.ready-dev
	@$(BIN)/python -m pytest

check: .venv/.ready-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright

format: .venv/.ready-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis *.egg-info
