"""Two methods compared seed by seed: on the same model, task, rank and settings."""

from __future__ import annotations

import pandas as pd

from glue_harness import evidence, stats
from glue_harness.config import Protocol
from glue_harness.evidence import Row
from glue_harness.records import Status
from glue_harness.selection import STATISTICS, Selection, add_bounds, split_rows

FIRST = "edora"
"""The method that pages and significance compare with the others."""

PAIR_KEY = ["model", "rank", "settings"]
"""What two compared methods have in common on every task."""


Pair = tuple[Row, Row]
"""Two runs of one seed, of the first and of the second method."""


def pair_runs(selection: Selection, first: str, second: str) -> dict[tuple, dict[int, Pair]]:
    """Return pairs of runs by ascending seed, for each (PAIR_KEY, task) of both methods, in grid order."""
    both = selection.chosen[selection.chosen["method"].isin([first, second])]
    paired = {}
    for runs in split_rows(evidence.list_rows(both), [*PAIR_KEY, "task"]):
        sides = [{run["seed"]: run for run in runs if run["method"] == method} for method in (first, second)]
        seeds = sorted(sides[0].keys() & sides[1].keys())
        if seeds:
            key = tuple(runs[0][name] for name in (*PAIR_KEY, "task"))
            paired[key] = {seed: (sides[0][seed], sides[1][seed]) for seed in seeds}
    return paired


def compare_methods(selection: Selection, first: str, second: str) -> pd.DataFrame:
    """Return `first` minus `second`, a row for each (PAIR_KEY, task) that both have, in grid order.

    A pair is a seed planned for both; it enters once both scores have. Columns: PAIR_KEY, task, headline,
    averaged, first, second (the methods), `planned`, `entered` (numbers of pairs), `degenerate`, `diverged`
    (numbers of runs), `ahead` (number of pairs with `first` higher), `differences` (a tuple, in order of the
    seeds), `statistic` (the protocol's, of the differences; None unless all planned pairs entered), `spread`
    (sample standard deviation), `low`, `high` and `bounds` (`stats.bound_seeds`; likewise).
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
