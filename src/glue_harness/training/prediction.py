"""A finished run's model, loaded again, predicts a test set."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

from glue_harness.config.schema import Config, Task
from glue_harness.data.batching import TokenisedSplit, tokenise
from glue_harness.errors import InputError
from glue_harness.runs.identity import Identity
from glue_harness.runs.record import TRAINED_WEIGHTS
from glue_harness.training.evaluation import logits_files
from glue_harness.training.setup import Prepared, prepare
from glue_harness.training.trainer import GlueTrainer, build_trainer

TOLERANCE = 0.05
"""How far dev logits may be from those that the run wrote, as a share of the largest: machines round."""


def predict_logits(config: Config, identity: Identity, folder: Path, task: Task, rows: Dataset) -> np.ndarray:
    """Return the logits, (rows, outputs), that a finished run's model gives the rows of a test set.

    Raises:
        InputError: the weights in the run's folder do not give the dev logits that it wrote.
    """
    prepared = prepare(config, identity)
    load_weights(prepared, folder / TRAINED_WEIGHTS)
    test = tokenise(rows, task, prepared.tokenizer, config.trainer.max_length)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = build_trainer(prepared, config, identity.environment, Path(scratch))
        trainer.compute_metrics = None
        _check_dev(_compute_logits(trainer, prepared.dev), folder)
        return _compute_logits(trainer, test)


def load_weights(prepared: Prepared, path: Path) -> None:
    """Give a prepared model the adapter and head that a run has kept.

    Raises:
        InputError: the file lacks a tensor that the model has, or holds another.
    """
    model: Any = prepared.model
    saved = load_file(path)
    for name in sorted(get_peft_model_state_dict(model).keys() ^ saved.keys()):
        raise InputError(f"{path}: {name} is not as in this run's model; allowed is what the run kept")
    set_peft_model_state_dict(model, saved)


def _compute_logits(trainer: GlueTrainer, split: TokenisedSplit) -> np.ndarray:
    """Return a split's logits in its own order, (rows, outputs); computed from short rows to long ones."""
    order = np.argsort(split.lengths, kind="stable")  # (rows,)
    unlabelled = type(split.labels[0])(0)  # a test set's -1 is no class that a loss could be computed for
    blank = replace(split, labels=[unlabelled] * len(split))
    found = trainer.predict(blank.select(order.tolist())).predictions
    logits = np.empty_like(found, dtype=np.float32)
    logits[order] = found
    return logits


def _check_dev(logits: np.ndarray, folder: Path) -> None:
    written = np.load(max(logits_files(folder).items())[1])  # (rows, outputs)
    apart = float(np.abs(logits - written).max())
    if apart > TOLERANCE * float(np.abs(written).max()):
        raise InputError(
            f"{folder}: its weights give dev logits {apart:.3g} from those that it wrote; allowed is "
            "the weights, data and code that it was made with"
        )
