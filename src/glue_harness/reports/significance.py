"""EDoRA beside every other method, example by example, from predictions and the labels of dev.

It prints and writes nothing: which rows a run got
right, beside its predictions, would give GLUE's labels away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from glue_harness.analysis import statistics as stats
from glue_harness.analysis.example_statistics import bootstrap_examples, bound_examples, compare_by_mcnemar
from glue_harness.analysis.paired import FIRST, Pair, pair_rows
from glue_harness.analysis.rounding import show_percent
from glue_harness.analysis.summary import Selection, select
from glue_harness.data.metrics import find_majority
from glue_harness.data.sources import join_dev, load_split
from glue_harness.errors import InputError
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.collect import collect, restrict
from glue_harness.evidence.schema import Evidence, Row
from glue_harness.reports.notes import METHODS, name_metric, name_row, name_task
from glue_harness.reports.table import UNKNOWN, Entry, Table, to_markdown
from glue_harness.runs.record import Status
from glue_harness.sweeps import plan as sweep
from glue_harness.sweeps.grid import Cell

DRAWS = 10_000
HEAD = [("Task", ""), ("Method", ""), ("Against", ""), ("Seeds", ""), ("Difference", "points")]
HEAD += [("Interval", "95 %"), ("Only first right", "rows"), ("Only second right", "rows")]
HEAD += [("Smallest p", "Holm")]


@dataclass(frozen=True)
class Dev:
    """A task's dev rows as runs are scored on them: labels in the order of stored logits, (rows,)."""

    cell: Cell
    labels: np.ndarray

    @cached_property
    def majority(self) -> np.ndarray:
        """What stands for a run that has learnt nothing, (rows,): train's most frequent label, or a constant.

        Raises:
            InputError: the data source does not have train.
        """
        config = self.cell.config
        if not config.task.labels:
            return np.zeros(len(self.labels))
        train = np.asarray(load_split(config.data, config.task, "train")["label"][:])
        return np.full_like(self.labels, find_majority(train))


@dataclass(frozen=True)
class Comparison:
    """Two table rows on one task: mean difference over seeds, its interval over examples, and tests.

    `only_first`, `only_second`: rows that one alone got right, summed over seeds. `p_values`: one of
    McNemar's test for each seed, none for a regression.
    """

    first: Row
    second: Row
    seeds: int
    difference: float
    interval: tuple[float, float]
    only_first: int
    only_second: int
    p_values: tuple[float, ...]


def compare(overrides: list[str]) -> str:
    """Return the table of what `overrides` choose, in Markdown.

    Raises:
        InputError: no runs of EDoRA beside another method's, or dev labels that cannot be had.
    """
    plan, whole = sweep.plan(overrides), sweep.plan(sweep.without_filters(overrides))
    evidence_of_all = collect(whole, Path(plan.config.runs_dir), Path(plan.config.results_dir, plan.name))
    collected = restrict(evidence_of_all, plan)
    if plan.config.protocol.dev != "whole":
        raise InputError(f"protocol={plan.config.protocol.name}: allowed is one that reports on all of dev")
    selection = select(collected, plan.config.protocol, plan.config.experiment.searched)
    cells = {cell.task: cell for cell in plan.cells}
    found = [pair for task, cell in cells.items() for pair in compare_task(selection, collected, task, cell)]
    if not found:
        raise InputError(
            f"experiment={plan.name}: no finished runs of {FIRST} beside another method's on the same seeds; "
            "allowed is an experiment that has both"
        )
    return to_markdown(_lay_out(found, plan.title, selection))


def compare_task(selection: Selection, collected: Evidence, task: str, cell: Cell) -> list[Comparison]:
    """Return the rows of `analysis.paired.pair_rows` on one task, on the seeds that both of a pair have."""
    paired = [by_task[task] for _, _, by_task in pair_rows(selection) if task in by_task]
    if not paired:
        return []
    dev = load_dev(cell)
    compared = [_compare_rows(list(by_seed.values()), dev, collected) for by_seed in paired]
    return [comparison for comparison in compared if comparison is not None]


def load_dev(cell: Cell) -> Dev:
    """Return the dev rows of a cell's task.

    Raises:
        InputError: the data source does not have them.
    """
    config = cell.config
    splits = {name: load_split(config.data, config.task, name) for name in config.task.dev}
    return Dev(cell, np.asarray(join_dev(splits, config.task)[0]["label"][:]))


def _compare_rows(pairs: list[Pair], dev: Dev, collected: Evidence) -> Comparison | None:
    scored = [pair for pair in pairs if all(run["score"] is not None for run in pair)]
    if not scored:
        return None
    (first, second), labels = scored[0], dev.labels
    is_class = np.issubdtype(labels.dtype, np.integer)
    given = [[_predict(pair[side], collected, dev, is_class) for pair in scored] for side in (0, 1)]
    predictions = [*given[0], *given[1]]
    _require_rows(first["task"], predictions, labels)
    scores = bootstrap_examples(labels, predictions, first["headline"], np.random.default_rng(0), DRAWS)
    differences = scores[: len(scored)].mean(axis=0) - scores[len(scored) :].mean(axis=0)  # (draws,)
    rows = zip(*given, strict=True) if is_class else ()
    tests = [compare_by_mcnemar(labels, one, other) for one, other in rows]
    return Comparison(
        first=first,
        second=second,
        seeds=len(scored),
        difference=stats.mean([one["score"] - other["score"] for one, other in scored]),
        interval=bound_examples(differences),
        only_first=sum(test[0] for test in tests),
        only_second=sum(test[1] for test in tests),
        p_values=tuple(test[2] for test in tests),
    )


def _require_rows(task: str, predictions: Sequence[np.ndarray], labels: np.ndarray) -> None:
    for given in predictions:
        if len(given) != len(labels):
            raise InputError(
                f"{task}: {len(given)} stored predictions for {len(labels)} dev rows; allowed is the data "
                "that the runs were scored on"
            )


def _predict(run: Row, collected: Evidence, dev: Dev, is_class: bool) -> np.ndarray:
    """Return a run's predictions at its selected epoch, as they are scored: class ids, or scores; (rows,)."""
    if run["degenerate"] or run["status"] == Status.DIVERGED:
        return dev.majority
    (epoch,) = set(run["selected_epochs"])
    logits = collected.predictions[evidence.name_prediction(run["cell"], run["seed"], epoch)]
    return logits.argmax(axis=1) if is_class else logits[:, 0].astype(np.float64)


def _lay_out(found: Sequence[Comparison], title: str, selection: Selection) -> Table:
    corrected = iter(stats.correct_holm([p for pair in found for p in pair.p_values]))
    groups: dict[str, list[list[Entry]]] = {}
    for pair in found:
        smallest = min((next(corrected) for _ in pair.p_values), default=None)
        texts = [
            f"{name_task(pair.first['task'])} ({name_metric(pair.first['headline'])})",
            *(name_row(pair.first), name_row(pair.second), str(pair.seeds)),
            show_percent(pair.difference, digits=2, sign=True),
            " to ".join(show_percent(end, digits=2, sign=True) for end in pair.interval),
            *((str(pair.only_first), str(pair.only_second)) if pair.p_values else (UNKNOWN, UNKNOWN)),
            UNKNOWN if smallest is None else f"{smallest:.3g}",
        ]
        groups.setdefault(pair.first["task"], []).append([Entry(text) for text in texts])
    return Table(f"{title}: example by example", HEAD, 3, list(groups.values()), _explain(selection))


def _explain(selection: Selection) -> list[str]:
    protocol = selection.protocol
    return [
        f"Protocol {protocol.name}: {protocol.description.rstrip('.')}.",
        f"Difference: {METHODS[FIRST]}'s score minus the other's on the same seed, the mean over seeds. "
        "Its interval is over dev examples: the same rows are drawn anew for both and all seeds (paired "
        f"bootstrap, {DRAWS:,} draws). It says nothing of other seeds.",
        "A run that diverged, or gives every row one prediction, counts as the majority class throughout.",
        "McNemar's exact test compares two runs on the rows that one alone got right: the smallest p of a "
        "line's seeds, Holm-corrected over all tests of the table.",
    ]
