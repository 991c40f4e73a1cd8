"""Command `params`: how many parameters each method trains, for any model and rank, without weights.

Counts come from the model that a run would build, on the meta device. The standard comparison of a model goes
to results/params/<model>.{md,tex,csv}; one of other methods, ranks or settings is only printed.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import warnings
from pathlib import Path

import torch

from glue_harness.cli.common import command_line
from glue_harness.config.schema import Config
from glue_harness.config.validation import max_rank
from glue_harness.errors import require
from glue_harness.io import write_together
from glue_harness.models.adapters import apply_method
from glue_harness.models.backbone import outline_backbone
from glue_harness.reports.table import to_markdown
from glue_harness.reports.tables.parameters import QV_RANK, Count, TimesFewer, build_table, render
from glue_harness.runs.record import Parameters
from glue_harness.sweeps import plan as sweep
from glue_harness.sweeps.grid import Cell
from glue_harness.sweeps.plan import Plan

METHODS = ("full", "head_only", "magnitude_only", "lora", "lora_qv", "dora", "edora", "lora_xs")
RANKS = (4, 8, 12, 16, 20, 25, 32)
STANDARD = {"method": ",".join(METHODS), "rank": ",".join(map(str, RANKS))}
SETTABLE = ("model", "task", "method", "rank", "results_dir")

Axes = tuple[str, int | None]
"""A method and its rank."""


def compare(overrides: list[str]) -> list[Count]:
    """Count what `overrides` choose (in Hydra's grammar; by default METHODS at RANKS), beside the baselines.

    Raises:
        InputError: a name or value that does not exist, or that no count depends on.
    """
    return _compare_cells(_plan(overrides).cells, overrides)


def count_parameters(config: Config) -> Parameters:
    """Count what a run of this configuration trains, from the model it would build."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers' remarks on PEFT
        backbone = outline_backbone(config.model, config.task)
        return apply_method(backbone, config.model, config.method, config.seed)[1]


def _plan(overrides: list[str]) -> Plan:
    """Plan the cells to count; an axis that is given several times is given all of these values."""
    given: dict[str, list[str]] = {"model": [], **{axis: [] for axis in STANDARD}}
    others = []
    for override in overrides:
        key, _, value = override.partition("=")
        require(key.partition(".")[0] in SETTABLE, key, value, f"a value of {', '.join(SETTABLE)}")
        if key in given:
            given[key].append(value)
        else:
            others.append(override)
    chosen = STANDARD | {axis: ",".join(values) for axis, values in given.items() if values}
    return sweep.plan([*(f"{axis}={values}" for axis, values in chosen.items()), *others])


def _compare_cells(cells: list[Cell], overrides: list[str]) -> list[Count]:
    shared = [override for override in overrides if override.startswith(("task", "model."))]
    counts: list[Count] = []
    for model in dict.fromkeys(cell.model for cell in cells):
        own = [cell for cell in cells if cell.model == model]
        baselines = _find_baselines(own, [*shared, f"model={model}"])
        known = {cell.cell_hash: cell for cell in [*own, *baselines.values()]}
        parameters = {key: count_parameters(cell.config) for key, cell in known.items()}
        adapters = {axes: parameters[cell.cell_hash].adapter for axes, cell in baselines.items()}
        counts += [_describe(cell, parameters[cell.cell_hash], adapters) for cell in own]
    return counts


def _find_baselines(cells: list[Cell], overrides: list[str]) -> dict[Axes, Cell]:
    """Return what one model's cells are compared with: from among them, or else planned with `overrides`."""
    largest = max_rank(cells[0].config.model)
    ranks = sorted({rank for cell in cells if (rank := cell.rank) is not None and rank <= largest})
    wanted: list[Axes] = [("full", None), ("lora_qv", QV_RANK), *itertools.product(("lora", "dora"), ranks)]
    found = {(c.method, c.rank): c for c in cells if _name_settings(c) is None}
    for method in dict.fromkeys(method for method, rank in wanted if (method, rank) not in found):
        own_ranks = [str(rank) for name, rank in wanted if name == method and rank is not None]
        swept = [f"rank={','.join(own_ranks)}"] if own_ranks else []
        planned = sweep.plan([*overrides, f"method={method}", *swept]).cells
        found |= {(cell.method, cell.rank): cell for cell in planned}
    return {axes: found[axes] for axes in wanted}


def _name_settings(cell: Cell) -> str | None:
    return " ".join(text for text in cell.overrides if text.startswith("method.")) or None


def _describe(cell: Cell, own: Parameters, adapters: dict[Axes, int]) -> Count:
    def times_fewer(method: str, rank: int | None) -> float | None:
        baseline = adapters.get((method, rank))
        return baseline / own.adapter if baseline and own.adapter else None

    return Count(
        model=cell.model,
        method=cell.method,
        label=cell.label,
        rank=cell.rank,
        settings=_name_settings(cell),
        outputs=len(cell.config.task.labels) or 1,
        parameters=own,
        times_fewer=TimesFewer(
            lora=times_fewer("lora", cell.rank),
            lora_qv=times_fewer("lora_qv", QV_RANK),
            dora=times_fewer("dora", cell.rank),
            full=times_fewer("full", None),
        ),
    )


def report(overrides: list[str]) -> str:
    """Return the table that `overrides` choose, as Markdown; write a model's files if it is the standard one.

    Raises:
        InputError: see `compare`; or the folder cannot be written.
    """
    plan = _plan(overrides)
    counts = _compare_cells(plan.cells, overrides)
    if all(override.startswith(("model=", "results_dir=")) for override in overrides):
        files = {name: text.encode() for name, text in render(counts).items()}
        write_together(Path(plan.config.results_dir, "params"), files)
    return to_markdown(build_table(counts))


def run(arguments: argparse.Namespace) -> None:
    """Run the command, printing the table."""
    gc.freeze()  # else every collection walks through torch and transformers: a fifth of the whole time
    with command_line(arguments.overrides):
        print(report(arguments.overrides), end="")
