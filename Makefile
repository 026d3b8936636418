# `make demo` and `make test` need nothing but Python >= 3.11 with venv and pip; the page's tests and its benchmark
# need Chromium as well.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := build/demo
PYTEST_ARGS ?=
CHROMIUM := $(firstword $(foreach name,chromium chromium-browser google-chrome,$(shell command -v $(name))))

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench soak web clean

help:
	@echo "make setup   a virtual environment in $(VENV) with treadle and its tools"
	@echo "make demo    run examples/stdlib_report into $(DEMO)"
	@echo "make test    make check, then the test suite"
	@echo "make check   ruff, mypy, the floors"
	@echo "make bench   the benchmark table of docs/performance.md"
	@echo "make soak    the tests that run for minutes"
	@echo "make web     build the monitor's page (needs node and npm) into src/treadle/monitor/static"
	@echo "make clean   remove what was built"

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "Treadle needs Python 3.11 or later, and $(PYTHON) is %d.%d: say make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup
	@mkdir -p $(DEMO)
	$(BIN)/treadle run examples/stdlib_report/diagram.yaml -i out=$(DEMO) --store $(DEMO)/treadle.db

test: check
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal $(if $(CHROMIUM),,--ignore tests/page) $(PYTEST_ARGS)
	$(if $(CHROMIUM),,@echo "tests/page were left out: they need Chromium (on Debian: apt-get install chromium)")

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/engine.py --durability memory chain-10000 executions-200x10
	$(BIN)/python benchmarks/kernel.py
	$(BIN)/python benchmarks/durability.py
	$(BIN)/python benchmarks/writer.py
	$(BIN)/python benchmarks/bus.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/history.py
	$(BIN)/python benchmarks/encryption.py
	$(BIN)/python benchmarks/context.py
	$(BIN)/python benchmarks/monitor.py
	$(if $(CHROMIUM),$(BIN)/python benchmarks/page.py,@echo "benchmarks/page.py needs Chromium (on Debian: apt-get install chromium)")
	$(BIN)/python benchmarks/people.py

soak: setup
	$(BIN)/python -m pytest -q -m soak --timeout 1800 $(PYTEST_ARGS)

web:
	@command -v npm >/dev/null || { echo "make web needs npm, with Node >= 20: the page that is committed needs neither"; exit 1; }
	cd web && npm install --no-package-lock --no-audit --no-fund --silent
	cd web && npm run --silent check && npm test --silent && npm run --silent build

clean:
	rm -rf $(VENV) build dist web/node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
