"""A selection -> what a page lists of the runs and of the pairs of runs behind its numbers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from glue_harness.analysis.paired import FIRST, Pair, pair_rows
from glue_harness.analysis.rounding import show_percent
from glue_harness.analysis.summary import ROW_KEY, Selection, split_rows
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import (
    AVERAGE,
    anchor,
    anchor_pairs,
    name_against,
    name_bare,
    name_commit,
    name_place,
    name_row,
    name_settings,
    name_task,
)
from glue_harness.reports.table import UNKNOWN

COLUMNS = ("seed", "status", "epoch", "score", "training", "commit", "numerics", "configuration", "started")
SEARCHED = ("setting", "chosen")
"""Columns of runs that an experiment searched through."""


@dataclass(frozen=True)
class Block:
    """A list that a number leads to, by its `anchor`: a table of texts.

    `chosen`: how many rows, the first ones, are of the chosen setting. `links`: further places of the page,
    name and anchor.
    """

    anchor: str
    name: str
    about: str
    head: tuple[str, ...]
    rows: list[list[str]]
    chosen: int = 0
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Section:
    """The blocks of all tasks of a table's row, which an average leads to by its `anchor`."""

    anchor: str
    name: str
    blocks: list[Block]


def list_runs(selection: Selection) -> list[Section]:
    """Return the runs behind each row of the tables, of every setting tried; the chosen one's first."""
    marks, about = _mark_chosen(selection), _describe_choices(selection)
    head = (*SEARCHED, *COLUMNS) if about else COLUMNS
    sections = []
    for of_row in split_rows(evidence.list_rows(selection.scored), ROW_KEY):
        blocks = [_list_cell(runs, marks, about, head) for runs in split_rows(of_row, ["task"])]
        name = f"{of_row[0]['model']}: {name_row(of_row[0])}"
        sections.append(Section(anchor(of_row[0], AVERAGE), name, blocks))
    return sections


def _list_cell(
    runs: list[Row], marks: dict[tuple[str, int], str], about: dict[tuple, str], head: tuple[str, ...]
) -> Block:
    marked = [(marks.get((run["cell"], run["seed"]), ""), run) for run in runs]
    return Block(
        anchor=anchor(runs[0]),
        name=name_task(runs[0]["task"]),
        about=f"{len(runs)} runs{about.get(_key_cell(runs[0]), '')}",
        head=head,
        rows=[_show_run(run, mark, head) for mark, run in sorted(marked, key=lambda pair: not pair[0])],
        chosen=sum(mark != "" for mark, _ in marked),
    )


def _key_cell(row: Row) -> tuple:
    return tuple(row[name] for name in (*ROW_KEY, "task"))


def _mark_chosen(selection: Selection) -> dict[tuple[str, int], str]:
    """Return what is said of the runs, by cell and seed, that a protocol chose among several settings'."""
    marks = {}
    for run in evidence.list_rows(selection.chosen):
        if run["settings_tried"] > 1 and run["score"] is not None:
            halves = run["second_cell"] is not None
            marks[run["cell"], run["seed"]] = "first half" if halves else "chosen"
            if halves:
                marks[run["second_cell"], run["seed"]] = "second half"
    return marks


def _describe_choices(selection: Selection) -> dict[tuple, str]:
    """Return what is said beside the number of runs of each cell with several settings."""
    return {
        _key_cell(cell): f" of {cell['settings_tried']} settings, chosen: "
        + (name_settings(cell["chosen"]) if cell["chosen"] else "none yet")
        for cell in evidence.list_rows(selection.summary)
        if cell["settings_tried"] > 1
    }


def _show_run(run: Row, mark: str, head: tuple[str, ...]) -> list[str]:
    epochs = run["selected_epochs"]
    known = {
        "setting": name_settings(run["searched"]) if run["searched"] else None,
        "chosen": mark,
        "seed": run["seed"],
        "status": run["status"] + ", degenerate" * bool(run["degenerate"]),
        "epoch": None if epochs is None else ", ".join(map(str, epochs)),
        "score": None if run["score"] is None else show_percent(run["score"], digits=2),
        "training": None if run["train_seconds"] is None else f"{run['train_seconds']:.0f} s",
        "commit": None if run["commit"] is None else name_commit(run),
        "numerics": run["numerics"],
        "configuration": run["config_hash"],
        "started": run["started_at"],
    }
    return [UNKNOWN if known[name] is None else str(known[name]) for name in head]


def list_pairs(selection: Selection) -> list[Section]:
    """Return FIRST's runs beside each other row's on the same seeds: what differences are made of."""
    sections = []
    for first, second, by_task in pair_rows(selection):
        place, against = name_place(first), name_against(first, second)
        blocks = [_list_pair(place, against, by_seed) for by_seed in by_task.values()]
        name = f"{name_bare(FIRST)} beside {against}: {place}"
        sections.append(Section(anchor_pairs(place, against, AVERAGE), name, blocks))
    return sections


def _list_pair(place: str, against: str, by_seed: dict[int, Pair]) -> Block:
    sides = next(iter(by_seed.values()))
    task = name_task(sides[0]["task"])
    return Block(
        anchor=anchor_pairs(place, against, task),
        name=task,
        about=f"{len(by_seed)} pairs",
        head=("seed", name_bare(FIRST), against, "difference"),
        rows=[_show_pair(seed, pair) for seed, pair in by_seed.items()],
        links=tuple((name_row(run), anchor(run)) for run in sides),
    )


def _show_pair(seed: int, pair: Pair) -> list[str]:
    first, second = (run["score"] for run in pair)
    scores = [UNKNOWN if score is None else show_percent(score, digits=2) for score in (first, second)]
    if first is None or second is None:
        return [str(seed), *scores, UNKNOWN]
    return [str(seed), *scores, show_percent(first - second, digits=2, sign=True)]
