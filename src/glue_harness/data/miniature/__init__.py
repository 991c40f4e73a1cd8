"""The embedded miniature GLUE: nine tasks of generated English with GLUE's columns, splits and label ids.

It serves demonstrations, tests and tiny tokenizers, and needs no network. All of it is written for this
project; no sentence is GLUE's. Labels are true by construction: a sentence is made from a meaning, and its
partner from the same meaning or one changed in a known way (`facts`), or from frames made in pairs
(`templates`).

Rows come in contrasts, groups with equally many rows of each class (`contrasts`), and a contrast lies in one
split. The words of either sentence, as a bag, say next to nothing of the label; order, negation, roles,
synonyms and kinds decide it. Only in sst2 do words help, as they do in SST-2. Splits share no row, nor any
pair with its sentences swapped.

On validation (mnli: matched), in each task's headline metric: the majority class; a bag of words
(scikit-learn's LogisticRegression, for stsb Ridge, over word counts, the two sentences' words counted
apart); all-MiniLM-L6-v2 fine-tuned (seed 0; AdamW, learning rate 1e-4, head and pooler 1e-3, linear
schedule, batch 32, the last of 5 epochs; `-` is not measured):

    task  metric    majority  bag of words  MiniLM
    cola  Matthews     0.00          0.00    0.89
    sst2  accuracy     0.50          0.65    0.90
    mrpc  accuracy     0.50          0.45    0.80
    stsb  Pearson      0.00         -0.05    0.89
    qqp   accuracy     0.50          0.48       -
    mnli  accuracy     0.33          0.34       -
    qnli  accuracy     0.50          0.50    0.73
    rte   accuracy     0.50          0.47    0.76
    wnli  accuracy     0.50          0.50       -

The tests recompute the first two columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from glue_harness.data.miniature.contrasts import (
    Row,
    contrast_cola,
    contrast_mnli,
    contrast_mrpc,
    contrast_qnli,
    contrast_qqp,
    contrast_rte,
    contrast_sst2,
    contrast_stsb,
    contrast_wnli,
)
from glue_harness.data.miniature.dice import Dice
from glue_harness.data.miniature.words import COUNTRY

SPLIT_ROWS = {"train": 512, "validation": 256, "test": 128}
"""Rows a split holds at most; it holds the largest multiple of the task's number of classes."""


@dataclass(frozen=True)
class Recipe:
    """How one task is made: its sentence columns, its contrasts, the seed of its draws."""

    columns: tuple[str, ...]
    contrast: Callable[[Dice], list[Row]]
    seed: int


RECIPES = {
    "cola": Recipe(("sentence",), contrast_cola, 250112067_01),
    "sst2": Recipe(("sentence",), contrast_sst2, 250112067_02),
    "mrpc": Recipe(("sentence1", "sentence2"), contrast_mrpc, 250112067_03),
    "stsb": Recipe(("sentence1", "sentence2"), contrast_stsb, 250112067_04),
    "qqp": Recipe(("question1", "question2"), contrast_qqp, 250112067_05),
    "mnli": Recipe(("premise", "hypothesis"), contrast_mnli, 250112067_06),
    "qnli": Recipe(("question", "sentence"), contrast_qnli, 250112067_07),
    "rte": Recipe(("sentence1", "sentence2"), contrast_rte, 250112067_08),
    "wnli": Recipe(("sentence1", "sentence2"), contrast_wnli, 250112067_09),
}
TASKS = tuple(RECIPES)


def generate(task: str) -> dict[str, dict[str, list]]:
    """Return a task as GLUE publishes it: split name -> column name -> values.

    Columns are the task's sentences, `label` (int; float for stsb; -1 throughout the test splits) and `idx`.

    Raises:
        ValueError: the task is not one of `TASKS`.
    """
    if task not in RECIPES:
        raise ValueError(f"task: no {task!r} in the miniature GLUE; it has {', '.join(TASKS)}")
    recipe = RECIPES[task]
    dice = Dice(recipe.seed)
    seen: set[tuple[str, ...]] = set()
    return {
        split: tabulate_rows(draw_split(contrast, SPLIT_ROWS[split.split("_")[0]], dice, seen), recipe, split)
        for split, contrast in plan_splits(task, recipe)
    }


def plan_splits(task: str, recipe: Recipe) -> list[tuple[str, Callable[[Dice], list[Row]]]]:
    """Return a task's splits, each with what makes its rows; mnli's mismatched ones are of another genre."""
    if task != "mnli":
        return [(split, recipe.contrast) for split in SPLIT_ROWS]
    country = partial(contrast_mnli, words=COUNTRY)
    return [
        ("train", recipe.contrast),
        ("validation_matched", recipe.contrast),
        ("validation_mismatched", country),
        ("test_matched", recipe.contrast),
        ("test_mismatched", country),
    ]


def draw_split(
    contrast: Callable[[Dice], list[Row]], limit: int, dice: Dice, seen: set[tuple[str, ...]]
) -> list[Row]:
    """Return the rows of contrasts that have none, in either order, in common with `seen`; they go there."""
    rows: list[Row] = []
    group = contrast(dice)
    while len(rows) + len(group) <= limit:
        keys = {tuple(sorted(sentences)) for sentences, _ in group}
        if len(keys) == len(group) and not keys & seen:
            seen |= keys
            rows += group
        group = contrast(dice)
    return dice.shuffle(rows)


def tabulate_rows(rows: list[Row], recipe: Recipe, split: str) -> dict[str, list]:
    """Return rows as columns, the labels of a test split hidden."""
    table: dict[str, list] = {
        column: [sentences[place] for sentences, _ in rows] for place, column in enumerate(recipe.columns)
    }
    kind = float if recipe.contrast is contrast_stsb else int
    table["label"] = [kind(-1 if split.startswith("test") else label) for _, label in rows]
    table["idx"] = list(range(len(rows)))
    return table


def corpus() -> list[str]:
    """Return every different sentence of the tasks' training splits, in order of first appearance."""
    sentences: dict[str, None] = {}
    for task, recipe in RECIPES.items():
        train = generate(task)["train"]
        for column in recipe.columns:
            sentences.update(dict.fromkeys(train[column]))
    return list(sentences)
