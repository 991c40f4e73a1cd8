"""Names that people read, and the notes under a table: what its cells say and where its runs come from."""

from __future__ import annotations

import re

import pandas as pd

from glue_harness import evidence
from glue_harness.config import Protocol
from glue_harness.evidence import Row

METHODS = {
    "full": "Full fine-tuning",
    "lora": "LoRA",
    "lora_qv": "LoRA on q, v",
    "dora": "DoRA",
    "edora": "EDoRA",
    "lora_xs": "LoRA-XS",
    "edora_random": "EDoRA, random bases",
    "head_only": "Head only",
    "magnitude_only": "Magnitude only",
    "vera": "VeRA",
    "ia3": "IA3",
}
TASKS = {"cola": "CoLA", "sst2": "SST-2", "stsb": "STS-B"}
METRICS = {"matthews_correlation": "Matthews", "pearson": "Pearson", "spearman": "Spearman", "f1": "F1"}


def name_row(row: Row) -> str:
    """Return a table row's name, such as `LoRA (r=16), learning_rate=0.001`; else the method's label."""
    rank = "" if row["rank"] is None else f" (r={row['rank']})"
    name = f"{METHODS[row['method']]}{rank}" if row["method"] in METHODS else row["label"]
    settings = re.sub(r"[\w.]+\.(?=\w+=)", "", row["settings"] or "")  # trainer.epochs=5 is epochs=5
    return f"{name}, {settings.replace(' ', ', ')}" if settings else name


def name_task(task: str) -> str:
    """Return the name that papers use for a task."""
    return TASKS.get(task, task.upper())


def name_metric(metric: str) -> str:
    """Return a metric's short name."""
    return METRICS.get(metric, metric.replace("_", " "))


def explain_cells(summary: pd.DataFrame, protocol: Protocol, seeds: int) -> list[str]:
    """Return notes on the protocol and on every sign that the cells use; `seeds`: usually planned a cell."""
    differing = any(summary["planned"] != seeds)
    over = (f"over {seeds} seeds" if seeds > 1 else "of 1 seed") + ", unless it says n," * differing
    spread = ", ± the sample standard deviation (divisor n - 1)" if any(summary["planned"] > 1) else ""
    notes = [
        f"Protocol {protocol.name}: {protocol.description.rstrip('.')}.",
        f"A cell is the {protocol.statistic} {over} of the metric in the header, in percent, on dev{spread}.",
    ]
    if summary["task"].nunique() > 1:
        notes.append("The average is the mean over tasks, given once every planned run has entered.")
    if any(summary["entered"] < summary["planned"]):
        notes.append("A cell -- (k/n) has only k of its n planned runs.")
    signs = {
        "degenerate": "†k: k runs are degenerate (one prediction for every row)",
        "diverged": "‡k: k diverged",
    }
    used = [text for name, text in signs.items() if any(summary[name] > 0)]
    if used:
        notes.append("; ".join(used) + "; they enter at the majority class's score (correlations: 0).")
    return notes


def describe_runs(scored: pd.DataFrame) -> list[str]:
    """Return notes on the number of runs by status, what was counted, and the runs' provenance."""
    statuses = [f"{sum(scored['status'] == status)} {status}" for status in evidence.STATUSES]
    degenerate = f"{sum(scored['degenerate'])} degenerate"
    known = evidence.list_rows(scored[scored["status"] != evidence.MISSING])
    sources = [
        ("model", list(scored["model"])),
        ("trainer", list(scored["trainer"])),
        ("precision", [row["precision"] for row in known]),
        ("hardware", [row["hardware"] for row in known]),
        ("commit", [_name_commit(row) for row in known]),
        ("numerics", [row["numerics"] for row in known]),
    ]
    provenance = [f"{name} {', '.join(dict.fromkeys(map(str, found)))}" for name, found in sources if found]
    return [
        f"Runs: {len(scored)} planned, {', '.join(statuses)}; {degenerate}.",
        "Adapter: all that is trained outside of the head; head: as on the task with most labels.",
        f"Learning rates (adapter, head) and epochs: {'; '.join(_describe_settings(scored))}.",
        f"Provenance: {'; '.join(provenance)}.",
    ]


def _describe_settings(scored: pd.DataFrame) -> list[str]:
    """Say what each method was trained with: once where it is the same for all tasks, else by task."""
    used: dict[str, dict[str, str]] = {}
    for row in evidence.list_rows(scored):
        shown = f"{row['learning_rate']:g}, {row['head_learning_rate']:g}, {row['epochs']} epochs"
        used.setdefault(name_row(row), {})[name_task(row["task"])] = shown
    described = []
    for name, by_task in used.items():
        distinct = set(by_task.values())
        texts = distinct if len(distinct) == 1 else [f"{shown} on {task}" for task, shown in by_task.items()]
        described.append(f"{name} {' / '.join(texts)}")
    return described


def _name_commit(row: Row) -> str:
    return (row["commit"] or "unknown")[:7] + ("-dirty" if row["dirty"] else "")
