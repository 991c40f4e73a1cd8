"""GLUE's metrics as an `evaluate.Metric` over scikit-learn and scipy; needs no network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy import stats
from sklearn import metrics as sk

from glue_harness.config.metric_specs import METRICS
from glue_harness.config.schema import Task

MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": sk.accuracy_score,
    "f1": sk.f1_score,
    "matthews_correlation": sk.matthews_corrcoef,
    "pearson": lambda references, predictions: stats.pearsonr(references, predictions).statistic,
    "spearman": lambda references, predictions: stats.spearmanr(references, predictions).statistic,
}
"""Metric name (`config.metric_specs.METRICS`) to function of (references, predictions), both (rows,)."""

PARTS: dict[str, slice] = {"all": slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2)}
"""Parts of dev by row number: the halves let one select and the other report."""


class GlueMetric(evaluate.Metric):
    """The metrics of one task, computed together; an undefined value is None, never zero."""

    def __init__(self, names: Sequence[str], regression: bool) -> None:
        self.names = tuple(names)
        self.regression = regression
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value("float64" if self.regression else "int64")
        return evaluate.MetricInfo(
            description=self.__class__.__doc__ or "",
            citation="",
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def _compute(
        self, *, predictions: Sequence[Any], references: Sequence[Any], **kwargs: Any
    ) -> dict[str, float | None]:
        expected, given = np.asarray(references), np.asarray(predictions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a constant prediction: its correlation comes back as None
            values = {name: float(MEASURES[name](expected, given)) for name in self.names}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


def predict(logits: np.ndarray, task: Task) -> np.ndarray:
    """Return the class ids, or the scores of a regression, of logits (rows, outputs): (rows,)."""
    return logits.argmax(axis=1) if task.labels else logits[:, 0]


def score_parts(
    logits: np.ndarray, labels: np.ndarray, task: Task, named_parts: Mapping[str, slice]
) -> dict[str, dict[str, float | None]]:
    """Return part of dev -> metric -> value for logits (rows, outputs) and labels (rows,).

    The parts are `PARTS` and the task's own `named_parts` (MNLI's matched and mismatched).
    """
    metric = GlueMetric(task.metrics, regression=not task.labels)
    predictions = predict(logits, task)
    return {
        part: metric.compute(predictions=predictions[rows], references=labels[rows])
        for part, rows in (PARTS | dict(named_parts)).items()
    }


def score_majority(train_labels: np.ndarray, dev_labels: np.ndarray, task: Task) -> float:
    """Return the headline score on dev of predicting the most frequent train label throughout."""
    if METRICS[task.headline].correlates:
        return 0.0
    constant = np.full_like(dev_labels, find_majority(train_labels))
    return float(MEASURES[task.headline](dev_labels, constant))


def find_majority(train_labels: np.ndarray) -> int:
    """Return the most frequent train label, of equals the lowest."""
    values, counts = np.unique(train_labels, return_counts=True)
    return int(values[counts.argmax()])


def is_degenerate(logits: np.ndarray, task: Task) -> bool:
    """Say whether every row got the same prediction."""
    return bool(np.ptp(predict(logits, task)) == 0)
