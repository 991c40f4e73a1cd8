"""One run: from a configuration to its record."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import os
import shutil
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from peft import PeftModel

from glue_harness import hardware
from glue_harness.config.schema import Config
from glue_harness.data.batching import TokenisedSplit
from glue_harness.data.metrics import score_majority
from glue_harness.distributed import agree, hear_failure, is_first, join, leave, tell_failure
from glue_harness.errors import InputError
from glue_harness.hardware import Environment
from glue_harness.io import free_space, write_atomically
from glue_harness.models.backbone import weights_sha256
from glue_harness.runs.identity import Identity
from glue_harness.runs.lock import begin_attempt, count_attempts, own_run
from glue_harness.runs.outcome import End, Ending, describe_end, describe_owned, find_ending
from glue_harness.runs.record import (
    Cost,
    Provenance,
    RunRecord,
    Status,
    code_version,
    package_versions,
    write_record,
)
from glue_harness.training.arguments import micro_batch_size
from glue_harness.training.checkpoints import CHECKPOINTS, drop_partial, sync
from glue_harness.training.setup import Prepared, prepare
from glue_harness.training.trainer import Outcome, fit

CODE_VERSION = code_version()
"""Commit and dirty flag of the code as it was imported: the tree may change while a sweep runs."""


def run_once(config: Config, identity: Identity, show_progress: bool) -> Ending:
    """Bring the run to its end, unless it has ended well or another process is at it.

    A failure is recorded with its traceback. Input that cannot be used is not: nothing has begun. Of several
    processes that share the run, the first owns and records it; in the others a failure is raised.

    Raises:
        InputError: naming field, value and what is allowed; nothing has been written.
    """
    join(identity.environment.device)
    try:
        ending = _run_joined(config, identity, show_progress)
    except Exception as error:
        heard, why = hear_failure(), _explain(error, config, identity)
        tell_failure(why)
        if isinstance(error, InputError) or not is_first():
            raise
        return record_failure(config, identity, heard or why)
    if ending.state is not End.FAILED:
        leave()
    return ending


def _run_joined(config: Config, identity: Identity, show_progress: bool) -> Ending:
    folder = Path(config.runs_dir) / identity.folder
    if (ended := agree(lambda: _find_ending(folder))) is not None:
        return ended
    prepared = prepare(config, identity)
    with own_run(folder) if is_first() else contextlib.nullcontext(True) as ours:
        busy = None if ours else describe_owned(folder)
        if (ended := agree(lambda: busy or _find_ending(folder))) is not None:
            return ended
        if is_first():
            return _attempt(config, identity, prepared, folder, show_progress)
        return _take_part(config, identity, prepared, folder)


def record_failure(config: Config, identity: Identity, error: str) -> Ending:
    """Record that a run failed, unless it has ended well or another process is at it."""
    folder = Path(config.runs_dir) / identity.folder
    with own_run(folder) as ours:
        if not ours:
            return describe_owned(folder)
        if (ended := _find_ending(folder)) is not None:
            return ended
        record = _begin_record(config, identity, count_attempts(folder)).model_copy(update={"error": error})
        write_record(record, folder)
    return describe_end(record.status, record.error, folder)


def _explain(error: Exception, config: Config, identity: Identity) -> str:
    return describe_failure(error, config, identity.environment, Path(config.runs_dir) / identity.folder)


def _find_ending(folder: Path) -> Ending | None:
    ended = find_ending(folder)
    if ended is not None:
        # Whoever wrote the record may have died before it took these away.
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return ended


def _attempt(
    config: Config, identity: Identity, prepared: Prepared, folder: Path, show_progress: bool
) -> Ending:
    settings = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
    write_atomically(folder / "config.yaml", settings.encode())
    begun = _begin_record(config, identity, begin_attempt(folder))
    try:
        record = _train(config, begun, prepared, folder, show_progress)
    except Exception as error:
        why = hear_failure() or _explain(error, config, identity)
        record = begun.model_copy(update={"error": why})
        drop_partial(folder)  # which makes space for the record
        if (ended := _find_ending(folder)) is not None:  # a lost lock: another has brought it to its end
            return ended
    write_record(record, folder)
    if record.status is not Status.FAILED:  # a run that failed may go on from its checkpoint
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return describe_end(record.status, record.error, folder)


def _take_part(config: Config, identity: Identity, prepared: Prepared, folder: Path) -> Ending:
    """Train beside the process that owns the run and writes everything down."""
    outcome = fit(prepared, config, identity, folder, show_progress=False)
    return Ending(End.COMPLETE if outcome.diverged is None else End.DIVERGED, str(folder), folder)


def _train(
    config: Config, begun: RunRecord, prepared: Prepared, folder: Path, show_progress: bool
) -> RunRecord:
    """Train what is prepared; return `begun` with what came of it."""
    begin = time.perf_counter()
    model, train, dev = prepared.model, prepared.train, prepared.dev
    outcome = fit(prepared, config, begun.identity, folder, show_progress)
    if isinstance(model, PeftModel) and outcome.diverged is None:
        model.save_pretrained(str(folder / "adapter"))
        sync(folder / "adapter")
    known = {"data_sha256": prepared.data_sha256, "weights_sha256": weights_sha256(config.model)}
    return begun.model_copy(
        update={
            "status": Status.COMPLETE if outcome.diverged is None else Status.DIVERGED,
            "majority_score": score_majority(np.asarray(train.labels), np.asarray(dev.labels), config.task),
            "parameters": prepared.parameters,
            "epochs": outcome.epochs,
            "cost": _cost(outcome, prepared.seconds + time.perf_counter() - begin, train),
            "provenance": begun.provenance.model_copy(update=known),
            "error": outcome.diverged,
        }
    )


def _begin_record(config: Config, identity: Identity, attempts: int) -> RunRecord:
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
        attempts=attempts,
    )


def _cost(outcome: Outcome, last_seconds: float, train: TokenisedSplit) -> Cost:
    """Return what a run took; `last_seconds` are those of its last attempt."""
    seconds = outcome.train_seconds
    return Cost(
        train_seconds=seconds,
        eval_seconds=outcome.eval_seconds,
        total_seconds=outcome.earlier_seconds + last_seconds,
        train_examples_per_second=outcome.examples_seen / seconds if seconds else None,
        peak_memory_bytes=outcome.peak_memory_bytes,
        truncated_share=train.truncated_rows / len(train),
    )


FULL = (errno.ENOSPC, errno.EDQUOT)

SPARE_BYTES = 2**16
"""A disk with less than this left is full, though what failed there may not say so: see torch's writer."""


def describe_failure(error: Exception, config: Config, environment: Environment, folder: Path) -> str:
    """Return the traceback of what ended a run's attempt; its last line says what that means, if known."""
    text = "".join(traceback.format_exception(error))
    if _is_out_of_memory(error):
        rows = micro_batch_size(config, environment)
        return (
            f"{text}out of memory: set trainer.device_batch_size below {rows} (the global batch stays "
            f"{config.trainer.batch_size}), or trainer.eval_batch_size below {config.trainer.eval_batch_size}"
        )
    if _is_disk_full(error, folder):
        return f"{text}no space left on the disk of {folder}: with space, the same command goes on from there"
    return text


def _is_out_of_memory(error: Exception) -> bool:
    """Say whether memory ran out; torch's allocator for the CPU has no exception of its own."""
    return any(
        isinstance(link, MemoryError | torch.OutOfMemoryError)
        or (isinstance(link, RuntimeError) and "can't allocate memory" in str(link))
        for link in _chain(error)
    )


def _is_disk_full(error: Exception, folder: Path) -> bool:
    told = any(
        (isinstance(link, OSError) and link.errno in FULL) or os.strerror(errno.ENOSPC) in str(link)
        for link in _chain(error)  # safetensors and tokenizers raise a bare Exception
    )
    return told or free_space(folder) < SPARE_BYTES


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
