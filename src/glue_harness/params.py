"""ENTRY: how many parameters each method trains, for any model and rank; needs no weights and no network.

`python -m glue_harness.params model=roberta_base,deberta_v3_base [method=…] [rank=…] [task=…]`

Counts come from the model that a run would build, on the meta device. The standard comparison of a model goes
to results/params/<model>.{md,tex,csv}; one of other methods, ranks or settings is only printed.
"""

from __future__ import annotations

import csv
import gc
import io
import itertools
import sys
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from glue_harness import sweep
from glue_harness.backbone import outline_backbone
from glue_harness.captions import name_row
from glue_harness.config import Config
from glue_harness.entry import command_line
from glue_harness.errors import require
from glue_harness.files import write_together
from glue_harness.grid import Cell
from glue_harness.markup import UNKNOWN, Entry, Table, to_latex, to_markdown
from glue_harness.method import apply_method
from glue_harness.records import Parameters
from glue_harness.resolution import max_rank
from glue_harness.sweep import Plan

METHODS = ("full", "head_only", "magnitude_only", "lora", "lora_qv", "dora", "edora", "lora_xs")
RANKS = (4, 8, 12, 16, 20, 25, 32)
STANDARD = {"method": ",".join(METHODS), "rank": ",".join(map(str, RANKS))}
SETTABLE = ("model", "task", "method", "rank", "results_dir")

QV_RANK = 8
"""The rank of LoRA on query and value that published counts are compared with."""

HEADLINE = ("edora", 16)
"""The method and rank whose adapter the head is set against: EDoRA's published count."""

Axes = tuple[str, int | None]
"""A method and its rank."""


@dataclass(frozen=True)
class TimesFewer:
    """How many times fewer parameters an adapter has than each baseline's; None: nothing to compare."""

    lora: float | None
    lora_qv: float | None
    dora: float | None
    full: float | None


@dataclass(frozen=True)
class Count:
    """What one method at one rank trains on one model.

    `settings` are the method's other values, if any were given; `outputs` is the head's number of outputs.
    """

    model: str
    method: str
    label: str
    rank: int | None
    settings: str | None
    outputs: int
    parameters: Parameters
    times_fewer: TimesFewer


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


def build_table(counts: list[Count]) -> Table:
    """Lay out counts, a group a model."""
    models = list(dict.fromkeys(count.model for count in counts))
    several = len(models) > 1
    head = [*[("Model", "")] * several, ("Method", ""), ("Adapter", ""), ("Head", ""), ("Total", "")]
    head += [("Share", "%"), ("vs LoRA", "same r"), ("vs LoRA q, v", f"r={QV_RANK}")]
    head += [("vs DoRA", "same r"), ("vs full", "")]
    groups = [[_show_count(c, several) for c in counts if c.model == model] for model in models]
    return Table(f"Trained parameters: {', '.join(models)}", head, 1 + several, groups, _explain(counts))


def _show_count(count: Count, several_models: bool) -> list[Entry]:
    own = count.parameters
    texts = [*[count.model] * several_models, name_row(asdict(count))]
    texts += [f"{number:,}" for number in (own.adapter, own.head, own.total)]
    texts += [_show_number(100 * own.adapter / own.backbone)]
    texts += [_show_ratio(ratio) for ratio in asdict(count.times_fewer).values()]
    return [Entry(text) for text in texts]


def _show_ratio(ratio: float | None) -> str:
    if ratio is None:
        return UNKNOWN
    return f"{ratio:,.1f}" if ratio >= 1 else _show_number(ratio)


def _show_number(number: float) -> str:
    """Return three significant digits, never with an exponent."""
    return np.format_float_positional(number, precision=3, fractional=False, trim="-")


def _explain(counts: list[Count]) -> list[str]:
    backbones = _list_by_model({c.model: f"{c.parameters.backbone:,}" for c in counts})
    heads = {
        c.model: f"{c.parameters.head / c.parameters.adapter:.1f}"
        for c in counts
        if (c.method, c.rank, c.settings) == (*HEADLINE, None)
    }
    notes = [
        "Numbers of trained parameters, counted on the built model. Adapter: all that is trained outside of "
        f"the head; head: of {_count_outputs(counts)}, trained whole by every method; total: both.",
        f"Share: the adapter, in percent of the backbone without a head ({backbones}).",
        "vs: how many times fewer parameters the adapter has than this baseline's; LoRA and DoRA are at the "
        f"row's rank, on the modules that EDoRA adapts; LoRA q, v is at r={QV_RANK}; full is the backbone.",
    ]
    if heads:
        notes.append(f"The head over EDoRA's adapter at r={HEADLINE[1]}: {_list_by_model(heads)} times.")
    return notes


def _count_outputs(counts: list[Count]) -> str:
    numbers = sorted({count.outputs for count in counts})
    return f"{' or '.join(map(str, numbers))} output{'s' * (numbers != [1])}"


def _list_by_model(texts: dict[str, str]) -> str:
    return ", ".join(
        texts.values() if len(texts) == 1 else (f"{name} {text}" for name, text in texts.items())
    )


def to_csv(counts: Iterable[Count]) -> str:
    """Return the raw numbers, a line a count; empty is: no rank, or nothing to compare with."""
    lines = io.StringIO()
    names = ["model", "method", "label", "rank", "settings", *(f"{part}_parameters" for part in _PARTS)]
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow([*names, *(f"times_fewer_than_{name}" for name in TimesFewer.__annotations__)])
    for count in counts:
        parts = (getattr(count.parameters, part) for part in _PARTS)
        axes = (count.model, count.method, count.label, count.rank, count.settings)
        writer.writerow([*axes, *parts, *asdict(count.times_fewer).values()])
    return lines.getvalue()


_PARTS = tuple(Parameters.model_fields)


def render(counts: list[Count]) -> dict[str, str]:
    """Return the files of each model, name to text."""
    files = {}
    for model in dict.fromkeys(count.model for count in counts):
        own = [count for count in counts if count.model == model]
        table = build_table(own)
        files[f"{model}.md"] = to_markdown(table)
        files[f"{model}.tex"] = to_latex(table, f"params_{model}")
        files[f"{model}.csv"] = to_csv(own)
    return files


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


def main() -> None:
    """Run from the command line, printing the table; bad input is one line and exit code 2."""
    gc.freeze()  # else every collection walks through torch and transformers: a fifth of the whole time
    with command_line():
        print(report(sys.argv[1:]), end="")


if __name__ == "__main__":
    main()
