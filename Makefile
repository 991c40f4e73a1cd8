# `make help` lists what there is to do.
VENV ?= .venv
EXPERIMENT ?= demo
PYTHON := $(VENV)/bin/python
PYTEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(PYTHON) -m pytest -q -n auto

# Lists may be written with commas or spaces: TASKS=rte,mrpc or TASKS="rte mrpc".
empty :=
space := $(empty) $(empty)
comma := ,
commas = $(subst $(space),$(comma),$(strip $(1)))
list = [$(commas)]

OVERRIDES = $(if $(MODEL),model=$(MODEL)) $(if $(DATA),data=$(DATA)) $(if $(GLUE_ROOT),data.root=$(GLUE_ROOT)) \
	$(if $(TRAINER),trainer=$(TRAINER)) $(if $(PROTOCOL),protocol=$(PROTOCOL)) \
	$(if $(TASKS),'only.task=$(call list,$(TASKS))') $(if $(METHODS),'only.method=$(call list,$(METHODS))') \
	$(if $(RANKS),'only.rank=$(call list,$(RANKS))') $(if $(SEEDS),'only.seed=$(call list,$(SEEDS))')

.PHONY: help setup demo glue-all all-runs sweep tables restore params bench test test-all lint clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo
	@echo "Variables: MODEL DATA GLUE_ROOT TRAINER PROTOCOL; TASKS METHODS RANKS SEEDS filter a grid"
	@echo "(in params METHODS and RANKS choose); EXPERIMENT; VENV"

setup: $(VENV)/.installed  ## make the environment in $(VENV), exact pins

$(VENV)/.installed: requirements.txt pyproject.toml
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

demo: EXPERIMENT = demo
demo: all-runs  ## from nothing to a table: MiniLM on miniature GLUE, 24 runs

glue-all: EXPERIMENT = glue_all
glue-all: all-runs  ## the paper's comparison (roberta_base, six tasks); goes on where it stopped

sweep: setup  ## run what is left of EXPERIMENT
	$(PYTHON) -m glue_harness.train experiment=$(EXPERIMENT) $(OVERRIDES)

# The table shows what there is, also when a run failed; the exit code stays the sweep's.
all-runs: setup
	@status=0; $(PYTHON) -m glue_harness.train experiment=$(EXPERIMENT) $(OVERRIDES) || status=$$?; \
	if [ $$status -le 1 ]; then $(PYTHON) -m glue_harness.aggregate experiment=$(EXPERIMENT) $(OVERRIDES); fi; \
	exit $$status

tables: setup  ## write tables and figures to results/EXPERIMENT/ from runs and committed evidence
	@$(PYTHON) -m glue_harness.aggregate experiment=$(EXPERIMENT) $(OVERRIDES)

restore: setup  ## turn EXPERIMENT's committed evidence back into finished runs
	@$(PYTHON) -m glue_harness.restore experiment=$(EXPERIMENT) $(OVERRIDES)

params: setup  ## count what every method trains, without weights or network; MODEL may be a list
	@$(PYTHON) -m glue_harness.params $(if $(MODEL),model=$(call commas,$(MODEL))) \
		$(if $(METHODS),method=$(call commas,$(METHODS))) $(if $(RANKS),rank=$(call commas,$(RANKS)))

bench: setup  ## time and weigh the methods side by side, 25 minutes on a machine that does nothing else
	$(PYTHON) -W ignore::FutureWarning -m benchmarks

test: setup  ## the tests, in minutes
	$(PYTEST) -m "not slow"

test-all: test  ## the tests and then the longer suite
	$(PYTEST) -m slow

lint: setup  ## ruff and mypy
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

clean:  ## remove caches; runs/ and results/ stay
	rm -rf .pytest_cache .ruff_cache .mypy_cache outputs multirun
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
