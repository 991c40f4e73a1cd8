"""The miniature GLUE: nine tasks of generated English with GLUE's columns, splits and label ids.

It serves demonstrations, tests and small tokenizers, and needs no network. No sentence is GLUE's. Every label
is true by construction. Rows are made in contrast sets (`contrast_sets`), each of which lies in one split:
neither a text's words as such nor its length tell the label.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from glue_harness.data.miniature import contrast_sets
from glue_harness.data.miniature.contrast_sets import Row
from glue_harness.data.miniature.words import COUNTRY

SPLIT_ROWS = {"train": 512, "validation": 256, "test": 128}
"""Rows a split holds at most; it holds as many whole contrast sets as there is room for."""
_MNLI_SPLITS = ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched")

_RECIPES: dict[str, tuple[tuple[str, ...], Callable[[Random], list[Row]]]] = {
    "cola": (("sentence",), contrast_sets.make_cola),
    "sst2": (("sentence",), contrast_sets.make_sst2),
    "mrpc": (("sentence1", "sentence2"), contrast_sets.make_mrpc),
    "stsb": (("sentence1", "sentence2"), contrast_sets.make_stsb),
    "qqp": (("question1", "question2"), contrast_sets.make_qqp),
    "mnli": (("premise", "hypothesis"), contrast_sets.make_mnli),
    "qnli": (("question", "sentence"), contrast_sets.make_qnli),
    "rte": (("sentence1", "sentence2"), contrast_sets.make_rte),
    "wnli": (("sentence1", "sentence2"), contrast_sets.make_wnli),
}
"""Task -> its text columns and what makes a contrast set."""
TASKS = tuple(_RECIPES)


def generate(task: str) -> dict[str, dict[str, list]]:
    """Generate a task's rows, the same on every call, in the form in which GLUE publishes them.

    Args:
        task: One of `TASKS`.

    Returns:
        Split name -> column name -> values. The columns are the texts, `label` (int; float for stsb; -1
        throughout the test splits) and `idx`. No row comes twice in a task, nor with its texts swapped.

    Raises:
        ValueError: `task` is not one of `TASKS`.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)} (got {task!r})")
    columns, make_set = _RECIPES[task]
    make_mismatched = partial(contrast_sets.make_mnli, vocabulary=COUNTRY)
    rng = Random(f"miniature {task}")
    seen: set[tuple[str, ...]] = set()
    tables: dict[str, dict[str, list]] = {}
    for split in _MNLI_SPLITS if task == "mnli" else SPLIT_ROWS:
        make = make_mismatched if split.endswith("mismatched") else make_set
        rows = _draw_rows(make, SPLIT_ROWS[split.split("_")[0]], rng, seen)
        texts, labels = zip(*rows, strict=True)
        tables[split] = dict(zip(columns, map(list, zip(*texts, strict=True)), strict=True)) | {
            "label": [type(label)(-1) if split.startswith("test") else label for label in labels],
            "idx": list(range(len(rows))),
        }
    return tables


def corpus() -> list[str]:
    """Return every different text of the tasks' train splits, in order of first appearance."""
    trains = [(columns, generate(task)["train"]) for task, (columns, _) in _RECIPES.items()]
    return list(dict.fromkeys(text for columns, train in trains for name in columns for text in train[name]))


def _draw_rows(
    make_set: Callable[[Random], list[Row]], limit: int, rng: Random, seen: set[tuple[str, ...]]
) -> list[Row]:
    """Return at most `limit` rows in random order, none of them in `seen`, where they are entered."""
    rows: list[Row] = []
    contrast_set = make_set(rng)
    while len(rows) + len(contrast_set) <= limit:
        keys = {tuple(sorted(texts)) for texts, _ in contrast_set}
        if len(keys) == len(contrast_set) and not keys & seen:
            seen |= keys
            rows += contrast_set
        contrast_set = make_set(rng)
    rng.shuffle(rows)
    return rows
