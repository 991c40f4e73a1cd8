"""Names that people read, and the notes under a table: what its cells say and where its runs come from."""

from __future__ import annotations

import re
from collections import Counter

import pandas as pd

from glue_harness.analysis.summary import ROW_KEY, SERIES_KEY, Selection, split_rows
from glue_harness.config.metric_specs import METRICS
from glue_harness.config.schema import Protocol
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row

METHODS = {
    "full": "Full fine-tuning",
    "lora": "LoRA",
    "lora_qv": "LoRA on q, v",
    "dora": "DoRA",
    "dora_factored": "DoRA, factored norm",
    "edora": "EDoRA",
    "lora_xs": "LoRA-XS",
    "edora_random": "EDoRA, random bases",
    "head_only": "Head only",
    "magnitude_only": "Magnitude only",
    "vera": "VeRA",
    "ia3": "IA3",
}
TASKS = {"cola": "CoLA", "sst2": "SST-2", "stsb": "STS-B"}


def name_row(row: Row) -> str:
    """Return a table row's name, such as `LoRA (r=16), learning_rate=0.001`; else the method's label."""
    rank = "" if row["rank"] is None else f" (r={row['rank']})"
    name: str = f"{METHODS[row['method']]}{rank}" if row["method"] in METHODS else row["label"]
    return _add_settings(name, row)


AVERAGE = "average"
"""Where else a task stands: all of a row's tasks."""


def anchor(row: Row, task: str | None = None) -> str:
    """Return the name by which a page finds the runs of a table's cell, or of its row's AVERAGE."""
    return _join_anchor(row["model"], task or row["task"], row["label"], row["settings"] or "")


def anchor_pairs(place: str, against: str, task: str) -> str:
    """Return the name by which a page finds pairs of runs, from the names that people read of all three."""
    return _join_anchor("pairs", place, against, task)


def _join_anchor(*parts: str) -> str:
    return re.sub(r"[^\w.=]+", "-", " ".join(parts).strip())


def name_place(row: Row) -> str:
    """Return what two compared methods have in common, such as `tiny, r=16`."""
    rank = None if row["rank"] is None else f"r={row['rank']}"
    return ", ".join(part for part in (row["model"], rank, row["settings"]) if part)


def name_against(first: Row, second: Row) -> str:
    """Return what tells a row from the one it stands against: its method's name, if that is all."""
    same_place = name_place(first) == name_place(second)
    return name_bare(second["method"]) if same_place else name_row(second)


def name_method(row: Row) -> str:
    """Return the name that all ranks of a method share, such as `LoRA, learning_rate=0.001`."""
    return _add_settings(name_bare(row["method"]), row)


def name_bare(method: str) -> str:
    """Return a method's name alone, such as `LoRA`."""
    return METHODS.get(method, method)


def _add_settings(name: str, row: Row) -> str:
    return f"{name}, {name_settings(row['settings'])}" if row["settings"] else name


def name_settings(settings: str) -> str:
    """Return settings' values by the last part of their names: trainer.epochs=5 is epochs=5."""
    shown = re.sub(r"[\w.]+\.(?=\w+=)", "", settings)
    return " | ".join(half.replace(" ", ", ") for half in shown.split(" | "))  # of two halves of dev


def name_series(rows: list[Row], with_ranks: bool = True) -> str:
    """Return the name of one method's rows, such as `LoRA (r=8, 16)` or `LoRA (r=8), 50 settings`."""
    name = name_bare(rows[0]["method"])
    ranks = sorted({row["rank"] for row in rows if row["rank"] is not None and with_ranks})
    shown = f"{name} (r={', '.join(map(str, ranks))})" if ranks else name
    settings = len({row["settings"] for row in rows})
    return _add_settings(shown, rows[0]) if settings == 1 else f"{shown}, {settings} settings"


def name_task(task: str) -> str:
    """Return the name that papers use for a task."""
    return TASKS.get(task, task.upper())


def name_metric(metric: str) -> str:
    """Return a metric's short name."""
    return METRICS[metric].title


def count_seeds(summary: pd.DataFrame) -> int:
    """Return the number of seeds that most cells are planned with, the first of equals."""
    return Counter(summary["seeds"]).most_common(1)[0][0]


def explain_cells(selection: Selection, place: str = "in the header", averaged: bool = True) -> list[str]:
    """Return notes on the protocol and on every sign that the cells use.

    `place`: where the metric stands. `averaged`: the table has an average over tasks, if there are several.
    """
    summary, protocol = selection.summary, selection.protocol
    seeds = count_seeds(summary)
    differing = any(summary["seeds"] != seeds)
    over = (f"over {seeds} seeds" if seeds > 1 else "of 1 seed") + ", unless it says n," * differing
    spread = ", ± the sample standard deviation (divisor n - 1)" if any(summary["seeds"] > 1) else ""
    return [
        explain_protocol(protocol),
        f"A cell is the {protocol.statistic} {over} of the metric {place}, in percent, {_name_dev(protocol)}"
        f"{spread}.",
        *_explain_choice(summary, protocol),
        *(explain_average(summary) if averaged else []),
        *explain_signs(summary),
    ]


def explain_protocol(protocol: Protocol) -> str:
    """Return the note that names the protocol."""
    return f"Protocol {protocol.name}: {protocol.description.rstrip('.')}."


def explain_signs(cells: pd.DataFrame) -> list[str]:
    """Return notes on the signs that cells of a summary or a comparison use."""
    notes = []
    if any(cells["entered"] < cells["planned"]):
        notes.append("A cell -- (k/n) has only k of its n planned runs.")
    signs = {
        "degenerate": "†k: k runs are degenerate (one prediction for every row)",
        "diverged": "‡k: k diverged",
    }
    used = [text for name, text in signs.items() if any(cells[name] > 0)]
    if used:
        notes.append("; ".join(used) + "; they count as the majority-class baseline (correlations: 0).")
    return notes


def _name_dev(protocol: Protocol) -> str:
    return "on dev" if protocol.dev == "whole" else "the mean of the halves of dev (even rows, odd rows)"


def explain_average(summary: pd.DataFrame) -> list[str]:
    """Return the note on the average over tasks, if there are several."""
    if summary["task"].nunique() == 1:
        return []
    left_out = summary[~summary["averaged"].astype(bool)]["task"].unique()
    but = f" but {', '.join(name_task(task) for task in left_out)}" if len(left_out) else ""
    return [f"The average is the mean over tasks{but}, shown once a row has all of them and all their runs."]


def _explain_choice(summary: pd.DataFrame, protocol: Protocol) -> list[str]:
    """Say from how many settings each cell's was chosen, if the experiment searched through any."""
    tried: dict[int, list[Row]] = {}
    for row in evidence.list_rows(summary):
        tried.setdefault(row["settings_tried"], []).append(row)
    if max(tried) == 1:
        return []
    shown = []
    for number, rows in tried.items():
        series = split_rows(rows, SERIES_KEY)
        shown.append(f"{number} for {', '.join(name_series(of_method) for of_method in series)}")
    where = "" if protocol.dev == "whole" else ", on each half of dev for the other"
    return [
        f"Settings that a cell's was chosen from: {'; '.join(shown)}; chosen is the highest "
        f"{protocol.statistic} over seeds of the score that selects{where}. The CSV names it."
    ]


def explain_pairs(compared: pd.DataFrame, protocol: Protocol) -> list[str]:
    """Return notes on the rows that compare two methods seed by seed."""
    spread = ", ± their sample standard deviation" if any(compared["seeds"] > 1) else ""
    return [
        f"Difference: the first method minus the second on the same seed, the {protocol.statistic} over "
        f"seeds{spread}; it need not be the difference of the cells above.",
        "Pairs ahead: on how many seeds the first method is higher, of those on which both have a score.",
    ]


def describe_runs(scored: pd.DataFrame, with_head: bool = True) -> list[str]:
    """Return notes on the number of runs by status, what was counted, and the runs' provenance."""
    head = "; head: its size on the task with the most labels" if with_head else ""
    return [
        count_runs(scored),
        f"Adapter: all that is trained outside of the head{head}.",
        *_describe_starts(scored),
        describe_provenance(scored),
    ]


def count_runs(scored: pd.DataFrame) -> str:
    """Return the note on the number of runs by status."""
    statuses = [f"{sum(scored['status'] == status)} {status}" for status in evidence.STATUSES]
    degenerate = f"{sum(scored['degenerate'])} degenerate"
    return f"Runs: {len(scored)} planned, {', '.join(statuses)}; {degenerate}."


def describe_provenance(scored: pd.DataFrame) -> str:
    """Return the note on models, trainers, machines and code that the runs come from."""
    known = evidence.list_rows(scored[scored["status"] != evidence.MISSING])
    sources = [
        ("model", list(scored["model"])),
        ("trainer", list(scored["trainer"])),
        ("precision", [row["precision"] for row in known]),
        ("hardware", [row["hardware"] for row in known]),
        ("commit", [name_commit(row) for row in known]),
        ("numerics", [row["numerics"] for row in known]),
    ]
    provenance = [f"{name} {', '.join(dict.fromkeys(map(str, found)))}" for name, found in sources if found]
    return f"Provenance: {'; '.join(provenance)}.{_describe_mixtures(known)}"


def _describe_mixtures(known: list[Row]) -> str:
    """Say which cells' runs were computed in different ways: seeds are not all that they differ by."""
    scored = [run for run in known if run["score"] is not None]
    several = len({run["model"] for run in scored}) > 1
    mixed: dict[str, list[str]] = {}
    for runs in split_rows(scored, [*ROW_KEY, "task"]):
        for name in ("precision", "device", "numerics"):
            if len({run[name] for run in runs}) > 1:
                place = f"{name_row(runs[0])} on {name_task(runs[0]['task'])}"
                mixed.setdefault(name, []).append(f"{runs[0]['model']}: {place}" if several else place)
    shown = "; ".join(f"{name} ({', '.join(rows)})" for name, rows in mixed.items())
    return f" Within a cell runs differ in {shown}." if shown else ""


def _describe_starts(scored: pd.DataFrame) -> list[str]:
    """Say which rows' runs began with what a run of another task had learnt."""
    starts: dict[tuple[str, str], dict[str, None]] = {}
    for row in evidence.list_rows(scored):
        if row["init_from"] is not None:
            starts.setdefault((name_row(row), row["init_from"]), {})[name_task(row["task"])] = None
    shown = [f"{name} on {', '.join(on)} from {name_task(task)}" for (name, task), on in starts.items()]
    how = "Started from the adapter and the head, but for its output layer, of another task's run"
    return [f"{how} (same seed): {'; '.join(shown)}."] if shown else []


def name_commit(row: Row) -> str:
    """Return the commit a run was made at, short, and whether the code differed from it."""
    return (row["commit"] or "unknown")[:7] + ("-dirty" if row["dirty"] else "")
