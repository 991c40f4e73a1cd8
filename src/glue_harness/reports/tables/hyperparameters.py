"""A selection -> the table of what every method was trained with, and its CSV. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from glue_harness.analysis.summary import ROW_KEY, SERIES_KEY, Selection, split_rows
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import count_runs, describe_provenance, name_series, name_task
from glue_harness.reports.table import UNKNOWN, Entry, Table

HEAD = [
    ("Rate", "adapter"),
    ("Rate", "head"),
    ("Alpha", ""),
    ("Epochs", ""),
    ("Batch", "rows"),
    ("Warm-up", ""),
    ("Weight decay", ""),
    ("Clip", "norm"),
    ("Length", "tokens"),
    ("Precision", ""),
    ("Trainer", ""),
]
COLUMNS = [
    *("trainer", "epochs", "max_steps", "batch_size", "learning_rate", "head_learning_rate", "alpha"),
    *("warmup_share", "warmup_steps", "weight_decay", "max_grad_norm", "max_length", "precision"),
]
"""The columns of `Evidence.runs` that the table shows."""

ALL_TASKS = "all"

Values = tuple[str, ...]
"""What a method was trained with on a task, as shown: a text for each column of HEAD."""


def build_hyperparameter_table(selection: Selection, title: str) -> Table:
    """Lay out methods by hyper-parameters, in a group for each model.

    Ranks that share all values share a row, as do the tasks of a method that share theirs. Of a cell's
    several settings the chosen one is shown.
    """
    scored = selection.scored
    joined = _join_ranks(selection)
    several_models = scored["model"].nunique() > 1
    head = [*[("Model", "")] * several_models, ("Method", ""), ("Tasks", ""), *HEAD]
    groups: dict[str, list[list[Entry]]] = {}
    for rows, by_values in joined:
        for values, tasks in by_values.items():
            texts = [name_series(rows), ALL_TASKS if len(by_values) == 1 else ", ".join(tasks), *values]
            entries = [Entry(text) for text in [*[rows[0]["model"]] * several_models, *texts]]
            groups.setdefault(rows[0]["model"], []).append(entries)
    notes = [
        "Rates: peak learning rates of all that is trained outside of the head, and of the head. AdamW; the "
        "rates rise over the warm-up (a share, or a number, of all steps) and fall to 0 linearly. Alpha: an "
        "adapter's update is multiplied by alpha / rank.",
        "Batch: rows of a step, over all processes and accumulation. Clip: the norm that longer gradients "
        "are cut to. Length: what longer inputs are cut to.",
        *_explain_choice(selection),
        count_runs(scored),
        describe_provenance(scored),
    ]
    return Table(title, head, 2 + several_models, list(groups.values()), notes)


def _explain_choice(selection: Selection) -> list[str]:
    tried = max(selection.chosen["settings_tried"])
    notes = [
        f"Of up to {tried} settings the one is shown that protocol {selection.protocol.name} chooses; "
        "k values: not all of their runs have entered, and none is chosen yet."
    ]
    if any(selection.chosen["second_cell"].notna()):
        notes.append("a | b: the two halves of dev choose different settings.")
    return notes if tried > 1 else []


def _join_ranks(selection: Selection) -> list[tuple[list[Row], dict[Values, list[str]]]]:
    """Return, for each series of ranks that share all values, a row of each and its tasks by values."""
    known = [*ROW_KEY, "task", "seed", "cell", "adapter_parameters", *COLUMNS]
    seconds = {(row["cell"], row["seed"]): row for row in evidence.list_rows(selection.scored[known])}
    joined: dict[tuple, tuple[list[Row], dict[Values, list[str]]]] = {}
    for runs in split_rows(evidence.list_rows(selection.chosen[[*known, "second_cell"]]), ROW_KEY):
        by_values: dict[Values, list[str]] = {}
        for of_task in split_rows(runs, ["task"]):
            halves = [run for run in of_task if run["second_cell"] is not None]
            also = [seconds[run["second_cell"], run["seed"]] for run in halves]
            by_values.setdefault(_show_values([*of_task, *also]), []).append(name_task(of_task[0]["task"]))
        key = (*(runs[0][name] for name in SERIES_KEY), *((k, *tasks) for k, tasks in by_values.items()))
        joined.setdefault(key, ([], by_values))[0].append(runs[0])
    return list(joined.values())


def _show_values(runs: list[Row]) -> Values:
    """Return what the runs of one cell have, in the order of HEAD; a precision is known once one has run."""
    columns: list[dict[str, None]] = [{} for _ in HEAD]
    for run in runs:
        for column, text in zip(columns, _show_run(run), strict=True):
            column[text] = None
    return tuple(map(_join_texts, columns))


def _join_texts(texts: Iterable[str]) -> str:
    known = [text for text in texts if text != UNKNOWN]
    return (" | ".join(known) or UNKNOWN) if len(known) < 3 else f"{len(known)} values"


def _show_run(run: Row) -> Values:
    return (
        UNKNOWN if run["adapter_parameters"] == 0 else _show(run["learning_rate"]),
        _show(run["head_learning_rate"]),
        _show(run["alpha"]),
        f"{run['max_steps']} steps" if run["max_steps"] else _show(run["epochs"]),
        _show(run["batch_size"]),
        _show_warmup(run),
        _show(run["weight_decay"]),
        _show(run["max_grad_norm"]),
        _show(run["max_length"]),
        run["precision"] or UNKNOWN,
        run["trainer"],
    )


def _show(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:g}"


def _show_warmup(run: Row) -> str:
    if run["warmup_steps"] is not None:
        return f"{run['warmup_steps']} steps"
    return UNKNOWN if run["warmup_share"] is None else f"{100 * run['warmup_share']:g} %"


def to_hyperparameter_csv(selection: Selection) -> str:
    """Return the raw values, a line for each ROW_KEY, task and set of values; of all settings tried."""
    values = selection.scored[[*ROW_KEY, "task", *COLUMNS]]
    return values.drop_duplicates().to_csv(index=False, lineterminator="\n")
