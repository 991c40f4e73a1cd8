"""The table of trained parameters: a line a method and rank."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from glue_harness.reports.notes import name_row
from glue_harness.reports.table import UNKNOWN, Entry, Table, to_latex, to_markdown
from glue_harness.runs.record import Parameters

QV_RANK = 8
"""The rank of LoRA on query and value that published counts are compared with."""

HEADLINE = ("edora", 16)
"""The method and rank whose adapter the head is set against: EDoRA's published count."""


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
