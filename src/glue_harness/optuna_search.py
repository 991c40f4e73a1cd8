"""A search by Optuna's ask-and-tell: rates between the ends of a plan's grid, poor trials given up early.

A trial is a run like any other, in a process of its own. Optuna's journal remembers what was asked and told,
so that an interrupted search goes on with the trials it was at.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from glue_harness.config import Config, Search
from glue_harness.errors import InputError, require
from glue_harness.grid import Cell
from glue_harness.hardware import runs_at_once
from glue_harness.identity import hash_plan
from glue_harness.logits import logits_files
from glue_harness.metrics import score_parts
from glue_harness.progress import open_bar
from glue_harness.records import RunRecord, Status
from glue_harness.run_lock import own_run
from glue_harness.search import RATES
from glue_harness.sources import divide, load_split
from glue_harness.sweep import Plan

if TYPE_CHECKING:
    import optuna

POLL_SECONDS = 0.5

Key = tuple[str, str]
"""A study: the method's label and the task."""


def run_trials(whole: Plan, wanted: Plan, check: Callable[[Plan], object]) -> tuple[Plan, dict[Key, int]]:
    """Run the missing trials of the methods and tasks of `wanted`, several at once.

    `check` is given the plan of the trials that there are, before there are more.

    Returns:
        The plan of all trials that `whole`'s methods and tasks have had, without the pruned ones, and the
        number of these by study.

    Raises:
        InputError: Optuna is missing, another process is at this search, or its runs start from others.
    """
    require_optuna()
    groups, asked, search = _group(whole), _group(wanted), whole.config.search
    origin = next((cell.config.init_from for cell in whole.cells if cell.source is not None), None)
    require(origin is None, "init_from", origin, "null with search=optuna")
    folder = Path(whole.config.runs_dir, "optuna", whole.name)
    with own_run(folder) as ours:
        if not ours:
            raise InputError(f"search=optuna: {folder} is in use; allowed is one search there at a time")
        studies = {key: _open_study(cells, search, folder) for key, cells in groups.items()}
        check(_describe(whole, studies, groups)[0])
        with open_bar(total=(search.trials or 0) * len(asked), desc="trials", unit="trial") as bar:
            for key in asked:
                _run_study(studies[key], groups[key], bar)
        return _describe(whole, studies, groups)


def require_optuna() -> None:
    """Check that Optuna is there, and make it say less.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError(
            "search=optuna: the package optuna is not installed; `make setup-optuna` installs it"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _group(plan: Plan) -> dict[Key, list[Cell]]:
    groups: dict[Key, list[Cell]] = {}
    for cell in plan.cells:
        groups.setdefault((cell.label, cell.task), []).append(cell)
    return groups


def _open_study(cells: list[Cell], search: Search, folder: Path) -> optuna.Study:
    """Open the study of one method on one task, named by all that its runs share: all but the rates."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    require(search.trials is not None and search.trials >= 1, "search.trials", search.trials, "1 or more")
    identity = _with_rates(cells[0], dict.fromkeys(RATES, 1.0)).identity
    study = optuna.create_study(
        study_name=f"{identity.task} {identity.label} {identity.config_hash}",
        storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=search.startup_trials or 0),
        direction="maximize",
        load_if_exists=True,
    )
    # A search that goes on must not draw again what it began with.
    seed = np.random.SeedSequence([search.seed or 0, len(study.trials)]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(seed), n_startup_trials=search.startup_trials or 0)
    study.set_user_attr("trials", search.trials)
    return study


def _with_rates(cell: Cell, rates: dict[str, float]) -> Cell:
    """Return `cell` at other rates: what a sweep would plan for them."""
    names = {f"trainer.{rate}": value for rate, value in rates.items()}
    kept = [o for o in cell.overrides if o.partition("=")[0] not in names]
    trainer = replace(cell.config.trainer)
    for rate, value in rates.items():
        setattr(trainer, rate, value)
    config = replace(cell.config, trainer=trainer)
    overrides = (*kept, *(f"{name}={value!r}" for name, value in names.items()))
    return Cell(overrides, config, hash_plan(config))


def _run_study(study: optuna.Study, cells: list[Cell], bar: tqdm) -> None:
    """Run trials until the study has its number; a trial whose run fails is left for the next time."""
    import optuna

    running = optuna.trial.TrialState.RUNNING
    begun = [optuna.trial.Trial(study, trial._trial_id) for trial in study.get_trials(states=(running,))]
    bar.update(len(study.trials) - len(begun))
    labels = _load_labels(cells[0].config)
    at_once = runs_at_once(cells[0].config.launcher.runs_per_gpu)
    attempts: list[Attempt] = []
    try:
        while True:
            while len(attempts) < at_once and (begun or len(study.trials) < study.user_attrs["trials"]):
                trial = begun.pop() if begun else study.ask()
                attempts.append(Attempt(study, trial, _draw(trial, cells), labels))
            if not attempts:
                return
            time.sleep(POLL_SECONDS)
            over = [attempt for attempt in attempts if attempt.is_over()]
            attempts = [attempt for attempt in attempts if attempt not in over]
            bar.update(len(over))
    finally:
        for attempt in attempts:
            attempt.kill()


def _load_labels(config: Config) -> np.ndarray:
    splits = {"train": load_split(config.data, config.task, "train")}
    _, held, _ = divide(splits, config.task, config.data.holdout)
    return np.asarray(held["label"])  # (rows,)


def _draw(trial: optuna.Trial, cells: list[Cell]) -> Cell:
    """Return the trial's cell: each rate log-uniform between the ends of what the grid has."""
    rates = {}
    for rate in RATES:
        values = [getattr(cell.config.trainer, rate) for cell in cells]
        fixed = min(values) == max(values)
        rates[rate] = values[0] if fixed else trial.suggest_float(rate, min(values), max(values), log=True)
    return _with_rates(cells[0], rates)


class Attempt:
    """A trial at work: its run in a process group of its own, and what Optuna has been told of it."""

    def __init__(self, study: optuna.Study, trial: optuna.Trial, cell: Cell, labels: np.ndarray) -> None:
        self.study, self.trial, self.cell, self.labels = study, trial, cell, labels
        self.reported: set[int] = set()
        self.log = cell.folder.with_suffix(".log")
        overrides = [o for o in cell.overrides if o.partition("=")[0] != "launcher"]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "glue_harness.train", "-m", *overrides, "launcher=basic"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_over(self) -> bool:
        """Tell Optuna of new epochs, and of the end: the run's own, or a poor trial's that is given up."""
        import optuna

        ended = self.process.poll() is not None
        self._report()
        if not ended and self.reported and self.trial.should_prune():
            self.kill()
            shutil.rmtree(self.cell.folder, ignore_errors=True)
            self.log.unlink(missing_ok=True)
            self.study.tell(self.trial, state=optuna.trial.TrialState.PRUNED)
            return True
        record = self.cell.record() if ended else None
        if record is not None and record.status is not Status.FAILED:
            self.study.tell(self.trial, _score(record, self.cell.config))
        elif ended:
            tqdm.write(f"failed: {self.cell.folder}; {self.log} says why", file=sys.stderr)
        return ended

    def _report(self) -> None:
        for epoch, path in sorted(logits_files(self.cell.folder).items()):
            if epoch in self.reported or epoch >= self.cell.config.trainer.epochs:
                continue
            try:
                logits = np.load(path)  # (rows, outputs)
            except (OSError, ValueError, EOFError):
                return  # it is being written
            task = self.cell.config.task
            value = score_parts(logits, self.labels, task, {})["all"][task.headline]
            self.trial.report(value or 0.0, epoch)
            self.reported.add(epoch)

    def kill(self) -> None:
        """End the run's processes, if they have not ended."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _score(record: RunRecord, config: Config) -> float:
    """Return what Optuna is told: the protocol's score, the majority class's for a run that diverged."""
    if record.status is Status.DIVERGED:
        return record.majority_score or 0.0
    curve = [epoch.metrics["all"][record.headline] or 0.0 for epoch in record.epochs]
    return max(curve) if config.protocol.epoch == "best" else curve[-1]


def _describe(
    whole: Plan, studies: dict[Key, optuna.Study], groups: dict[Key, list[Cell]]
) -> tuple[Plan, dict[Key, int]]:
    import optuna

    cells, pruned = [], {}
    for key, study in studies.items():
        kept = [t for t in study.trials if t.state is not optuna.trial.TrialState.PRUNED]
        pruned[key] = len(study.trials) - len(kept)
        fixed = {rate: getattr(groups[key][0].config.trainer, rate) for rate in RATES}
        cells += [_with_rates(groups[key][0], fixed | trial.params) for trial in kept]
    return replace(whole, name=f"{whole.name}-optuna", cells=cells), pruned
