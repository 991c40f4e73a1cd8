"""One run: from a configuration to its record."""

from __future__ import annotations

import dataclasses
import datetime
import time
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers
import yaml
from peft import PeftModel

from glue_harness import hardware
from glue_harness.backbone import load_backbone, load_tokenizer, weights_sha256
from glue_harness.config import Config, InputError
from glue_harness.data import RUN_SPLITS, TokenisedSplit, fingerprint, load_split, tokenise
from glue_harness.method import apply_method, build_adapter
from glue_harness.metrics import score_majority
from glue_harness.records import (
    Cost,
    Identity,
    Provenance,
    RunRecord,
    Status,
    claim,
    code_version,
    package_versions,
    read_record,
    write_atomically,
    write_record,
)
from glue_harness.trainer import DivergedError, Outcome, fit

CODE_VERSION = code_version()
"""Commit and dirty flag of the code as it was imported: the tree may change while a sweep runs."""


class Ending(NamedTuple):
    """How an attempt at a run ended: its record's status, or `skipped` or `busy`, and one line about it."""

    state: str
    message: str


def run_once(config: Config, identity: Identity, show_progress: bool) -> Ending:
    """Bring the run to its end, unless it has ended well or another process is at it.

    A failure is recorded with its traceback. Input that cannot be used is not: nothing has begun.

    Raises:
        InputError: naming field, value and what is allowed.
    """
    build_adapter(config.method)  # a wrong argument fails here, before anything is written or loaded
    folder = Path(config.runs_dir) / identity.folder
    with claim(folder) as ours:
        if not ours:
            return Ending("busy", f"{folder} is being run by another process")
        record = read_record(folder)
        if record is not None and record.status is not Status.FAILED:
            return Ending("skipped", f"{folder} is {record.status}; nothing to do")
        return _attempt(config, identity, folder, show_progress)


def record_failure(config: Config, identity: Identity, error: str) -> Ending:
    """Record that a run failed, unless it has a record of a better end."""
    folder = Path(config.runs_dir) / identity.folder
    record = read_record(folder)
    if record is None or record.status is Status.FAILED:
        record = _begin_record(config, identity).model_copy(update={"error": error})
        write_record(record, folder)
    return _ending(record, folder)


def _attempt(config: Config, identity: Identity, folder: Path, show_progress: bool) -> Ending:
    settings = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
    write_atomically(folder / "config.yaml", settings.encode())
    begun = _begin_record(config, identity)
    try:
        record = _train(config, begun, folder, show_progress)
    except InputError:
        raise
    except Exception:
        record = begun.model_copy(update={"error": traceback.format_exc()})
    write_record(record, folder)
    return _ending(record, folder)


def _ending(record: RunRecord, folder: Path) -> Ending:
    last_line = (record.error or "").strip().rpartition("\n")[2]
    return Ending(record.status, f"{folder}: {last_line}" if last_line else str(folder))


def _begin_record(config: Config, identity: Identity) -> RunRecord:
    """Return a run's record before anything is known of it: failed, until it is not."""
    provenance = Provenance(
        commit=CODE_VERSION[0],
        dirty=CODE_VERSION[1],
        packages=package_versions(),
        hardware=hardware.describe(),
        data_sha256={},
        weights_sha256=None,
        started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    return RunRecord(
        status=Status.FAILED,
        identity=identity,
        headline=config.task.headline,
        majority_score=None,
        parameters=None,
        epochs=[],
        cost=None,
        provenance=provenance,
        error=None,
    )


def _train(config: Config, begun: RunRecord, folder: Path, show_progress: bool) -> RunRecord:
    """Do the run: data, backbone, method, training; return `begun` with what came of it."""
    begin = time.perf_counter()
    _quieten_libraries()
    environment = begun.identity.environment
    if environment.threads is not None:
        torch.set_num_threads(environment.threads)
    task = config.task
    tokenizer = load_tokenizer(config.model)
    datasets = {split: load_split(config.data, task, split) for split in RUN_SPLITS}
    train, dev = (tokenise(rows, task, tokenizer, config.trainer.max_length) for rows in datasets.values())
    backbone = load_backbone(config.model, task, config.seed)
    model, parameters = apply_method(backbone, config.model, config.method, config.seed)
    provenance = begun.provenance.model_copy(
        update={
            "data_sha256": {split: fingerprint(rows, task) for split, rows in datasets.items()},
            "weights_sha256": weights_sha256(config.model),
        }
    )
    known = {
        "majority_score": score_majority(np.asarray(train.labels), np.asarray(dev.labels), task),
        "parameters": parameters,
        "provenance": provenance,
    }
    try:
        outcome = fit(model, train, dev, config, tokenizer, environment, folder, show_progress)
    except DivergedError as error:
        return begun.model_copy(update=known | {"status": Status.DIVERGED, "error": str(error)})
    if isinstance(model, PeftModel):
        model.save_pretrained(str(folder / "adapter"))
    cost = _cost(outcome, time.perf_counter() - begin, train)
    finished = {"status": Status.COMPLETE, "epochs": outcome.epochs, "cost": cost}
    return begun.model_copy(update=known | finished)


def _quieten_libraries() -> None:
    """Leave the screen to the run's own bar: what a library merely remarks is not the user's business."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _cost(outcome: Outcome, total_seconds: float, train: TokenisedSplit) -> Cost:
    return Cost(
        train_seconds=outcome.train_seconds,
        eval_seconds=outcome.eval_seconds,
        total_seconds=total_seconds,
        train_examples_per_second=outcome.examples_seen / outcome.train_seconds,
        peak_memory_bytes=hardware.peak_memory_bytes(),
        truncated_share=train.truncated_rows / len(train),
    )
