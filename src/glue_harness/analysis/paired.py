"""Two methods, or two rows of a table, compared seed by seed on the same model and task."""

from __future__ import annotations

import pandas as pd

from glue_harness.analysis import statistics as stats
from glue_harness.analysis.summary import ROW_KEY, STATISTICS, Selection, add_bounds, split_rows
from glue_harness.config.schema import Protocol
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.runs.record import Status

FIRST = "edora"
"""The method that tables of differences, pages and significance compare with the others."""

ABLATION = ("edora", "edora_random")
"""The methods that differ by their frozen bases; an experiment with both has a table of them."""

PAIR_KEY = ["model", "rank", "settings"]
"""What two compared methods have in common on every task."""

AGAINST_KEY = [*ROW_KEY, *(f"against_{name}" for name in ROW_KEY[1:])]
"""What makes a row of `compare_rows`: a table's row, and that of the same model which it stands against."""

RATES = ("trainer.learning_rate=", "trainer.head_learning_rate=")
"""How a setting begins that gives a row a learning rate."""

Pair = tuple[Row, Row]
"""Two runs of one seed, of the first and of the second method."""


def pair_runs(selection: Selection, first: str, second: str) -> dict[tuple, dict[int, Pair]]:
    """Return pairs of runs by ascending seed, for each (PAIR_KEY, task) of both methods, in grid order."""
    both = selection.chosen[selection.chosen["method"].isin([first, second])]
    paired = {}
    for runs in split_rows(evidence.list_rows(both), [*PAIR_KEY, "task"]):
        sides = [[run for run in runs if run["method"] == method] for method in (first, second)]
        if by_seed := _match_seeds(*sides):
            paired[tuple(runs[0][name] for name in (*PAIR_KEY, "task"))] = by_seed
    return paired


def _match_seeds(first: list[Row], second: list[Row]) -> dict[int, Pair]:
    sides = [{run["seed"]: run for run in runs} for runs in (first, second)]
    return {seed: (sides[0][seed], sides[1][seed]) for seed in sorted(sides[0].keys() & sides[1].keys())}


def may_compare(first: str, second: str, settings: str | None) -> bool:
    """Say whether two methods compare at settings of both.

    At a rate given to both it is the rate that is measured: methods want their own. ABLATION
    is one method with two bases, and may.
    """
    has_rate = any(text.startswith(RATES) for text in (settings or "").split(" "))
    return not has_rate or {first, second} == set(ABLATION)


def pair_rows(selection: Selection) -> list[tuple[Row, Row, dict[str, dict[int, Pair]]]]:
    """Return each of FIRST's rows with each row it is compared with, and their pairs by task and seed.

    With the same model and settings that is every other method at the same rank, without a rank, or at a rank
    that FIRST does not have (LoRA at rank 1); but none that `may_compare` leaves out. FIRST's
    other settings stand against its first ones, at the same rank. Rows are their ROW_KEY, in grid order;
    tasks are those with a seed of both.
    """
    rows = split_rows(evidence.list_rows(selection.chosen), ROW_KEY)
    firsts = [runs for runs in rows if runs[0]["method"] == FIRST]
    ranks = {runs[0]["rank"] for runs in firsts}
    leading = {(runs[0]["model"], runs[0]["rank"]): runs[0] for runs in reversed(firsts)}
    found = []
    for runs in firsts:
        for others in rows:
            if _is_compared(runs[0], others[0], ranks, leading):
                pairs = _match_tasks(runs, others)
                found += [(_key_row(runs[0]), _key_row(others[0]), pairs)] if pairs else []
    return found


def _is_compared(first: Row, second: Row, ranks: set[int | None], leading: dict[tuple, Row]) -> bool:
    if first["model"] != second["model"]:
        return False
    if second["method"] == FIRST:
        return first is leading[first["model"], second["rank"]] is not second
    comparable = second["rank"] in (first["rank"], None) or second["rank"] not in ranks
    alike = first["settings"] == second["settings"]
    return comparable and alike and may_compare(first["method"], second["method"], first["settings"])


def _match_tasks(first: list[Row], second: list[Row]) -> dict[str, dict[int, Pair]]:
    sides = [{runs[0]["task"]: runs for runs in split_rows(side, ["task"])} for side in (first, second)]
    matched = {task: _match_seeds(runs, sides[1].get(task, [])) for task, runs in sides[0].items()}
    return {task: by_seed for task, by_seed in matched.items() if by_seed}


def _key_row(run: Row) -> Row:
    return {name: run[name] for name in ROW_KEY}


def compare_rows(selection: Selection) -> pd.DataFrame:
    """Return the pairs of `pair_rows` as `compare_methods` does, a row for each (AGAINST_KEY, task)."""
    compared = []
    for first, second, by_task in pair_rows(selection):
        key = first | {f"against_{name}": second[name] for name in ROW_KEY[1:]}
        for by_seed in by_task.values():
            pairs = list(by_seed.values())
            common = {name: pairs[0][0][name] for name in ("task", "headline", "averaged")}
            compared.append(key | common | _compare_pairs(pairs, selection.protocol))
    return pd.DataFrame(add_bounds(compared, "differences", selection.protocol), dtype=object)


def compare_methods(selection: Selection, first: str, second: str) -> pd.DataFrame:
    """Return `first` minus `second`, a row for each (PAIR_KEY, task) that both have, in grid order.

    A pair is a seed planned for both; it enters once both scores have. Columns: PAIR_KEY, task, headline,
    averaged, first, second (the methods), `planned`, `entered` (numbers of pairs), `degenerate`, `diverged`
    (numbers of runs), `ahead` (number of pairs with `first` higher), `differences` (a tuple, in order of the
    seeds), `statistic` (the protocol's, of the differences; None unless all planned pairs entered), `spread`
    (sample standard deviation), `low`, `high` and `bounds` (`analysis.statistics.bound_seeds`; likewise).
    """
    compared = []
    for by_seed in pair_runs(selection, first, second).values():
        pairs = list(by_seed.values())
        common = {name: pairs[0][0][name] for name in (*PAIR_KEY, "task", "headline", "averaged")}
        compared.append(
            common | {"first": first, "second": second} | _compare_pairs(pairs, selection.protocol)
        )
    return pd.DataFrame(add_bounds(compared, "differences", selection.protocol), dtype=object)


def _compare_pairs(pairs: list[Pair], protocol: Protocol) -> Row:
    scores = [(first["score"], second["score"]) for first, second in pairs]
    differences = tuple(first - second for first, second in scores if None not in (first, second))
    whole = len(differences) == len(pairs)
    return {
        **{"planned": len(pairs), "entered": len(differences), "seeds": len(pairs)},
        "degenerate": sum(run["degenerate"] for pair in pairs for run in pair),
        "diverged": sum(run["status"] == Status.DIVERGED for pair in pairs for run in pair),
        "ahead": sum(difference > 0 for difference in differences),
        "differences": differences,
        "statistic": STATISTICS[protocol.statistic](differences) if whole else None,
        "spread": stats.spread(differences) if whole else None,
    }
