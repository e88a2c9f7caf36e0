# Everything a newcomer needs: `make fetch` shows a page travel, `make test` checks the rest.
# Nothing is installed outside .venv; no root is needed.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.stamp
RUN := $(VENV)/bin/python
ARGS ?=

.PHONY: fetch test soak bench grid lint clean venv

# Python >= 3.11 and make are enough: without pip, compiler or network the pure stack runs as is.
fetch:
	@$(PYTHON) .ci/prepare.py $(VENV)
	@if [ -x $(RUN) ]; then python=$(RUN); else python="$(PYTHON)"; fi; \
	    $$python -m netstack fetch $(ARGS)

test: $(STAMP)
	@$(RUN) -m pytest $(ARGS)

soak: $(STAMP)
	@$(RUN) -m pytest -m soak --timeout 7200 $(ARGS)

bench: $(STAMP)
	@$(RUN) -m pytest -m bench tests/bench --benchmark-columns=median,iqr,rounds $(ARGS)

# After a change that moves the simulated figures on purpose: the difference goes into the commit.
grid: $(STAMP)
	@$(RUN) -m netstack.bench.grid tests/grid/snapshot.txt tests/grid/snapshot_singles.txt

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

venv: $(STAMP)

$(STAMP): pyproject.toml setup.py $(wildcard ext/*)
	@$(PYTHON) .ci/prepare.py --dev $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
	    .import_linter_cache .hypothesis .benchmarks
	find netstack -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
