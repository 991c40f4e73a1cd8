"""GLUE's metrics as plain facts: what each is called, what it can be, which tasks it is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricFacts:
    """A metric's title in tables, its lowest value (the highest is 1) and the tasks it can score.

    `correlates`: a constant prediction leaves it undefined, which counts as 0.
    """

    title: str
    lowest: int = 0
    correlates: bool = False
    for_scores: bool = False
    only_binary: bool = False

    def explain_misuse(self, labels: int) -> str | None:
        """Return what task the metric is for, if not one of so many labels (0: a regression)."""
        if self.for_scores:
            return None if labels == 0 else "a regression's"
        if self.only_binary:
            return None if labels == 2 else "that of a task with two labels"
        return None if labels else "a classification's"


METRICS = {
    "accuracy": MetricFacts("accuracy"),
    "f1": MetricFacts("F1", only_binary=True),
    "matthews_correlation": MetricFacts("Matthews", lowest=-1, correlates=True),
    "pearson": MetricFacts("Pearson", lowest=-1, correlates=True, for_scores=True),
    "spearman": MetricFacts("Spearman", lowest=-1, correlates=True, for_scores=True),
}
