"""Dev logits on disk, one file an epoch, and the scores that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glue_harness.config.schema import Config
from glue_harness.data.batching import TokenisedSplit
from glue_harness.data.metrics import is_degenerate, score_parts
from glue_harness.runs.record import Epoch


def read_epochs(
    folder: Path, dev: TokenisedSplit, config: Config, train_losses: Sequence[float]
) -> list[Epoch]:
    """Score every epoch from the logits on disk, against `dev` in its own order."""
    labels = np.asarray(dev.labels)  # (rows,)
    losses = dict(enumerate(train_losses, start=1))
    epochs = []
    for number, path in sorted(logits_files(folder).items()):
        logits = np.load(path)  # (rows, outputs)
        epochs.append(
            Epoch(
                epoch=number,
                train_loss=losses.get(number),
                metrics=score_parts(logits, labels, config.task, dev.parts),
                degenerate=is_degenerate(logits, config.task),
            )
        )
    return epochs


def logits_files(folder: Path) -> dict[int, Path]:
    """Return the epochs whose dev logits lie in a run's folder."""
    return {int(path.stem.removeprefix("epoch_")): path for path in folder.glob("logits/epoch_*.npy")}
