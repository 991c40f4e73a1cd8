"""The TSV folders of the GLUE download: tab-separated, no quoting, a header except where there is none."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset, Features, Value

from glue_harness.config.schema import Task
from glue_harness.data.fingerprint import UNLABELLED
from glue_harness.errors import InputError


def tsv_path(root: Path, task: Task, split: str) -> Path:
    """Return where the GLUE download has a split: train.tsv, dev.tsv, dev_matched.tsv, test.tsv …"""
    return root / task.tsv.folder / f"{split.replace('validation', 'dev')}.tsv"


def read_tsv(path: Path, task: Task, split: str) -> Dataset:
    """Read a split's text columns and `label`; rows of a test split have none.

    A quotation mark is a character like any other: one left open swallows no rows. The download's MRPC begins
    with a byte order mark. Its QQP has lines that are cut short: GLUE's published rows are without them, so
    that they are left out where the rest are as many as were published.

    Raises:
        InputError: a column is missing, a row has another number of fields, or a label is not the task's;
            names file, line and what is allowed.
    """
    labelled = not split.startswith("test")
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = [line.rstrip("\r\n").split("\t") for line in file]
    if labelled and task.tsv.positions:
        places, body, first = dict(task.tsv.positions), lines, 1
    else:
        places, body, first = _find_columns(path, lines, task, labelled), lines[1:], 2
    width = len(lines[0]) if lines else 0
    rows = []
    published = task.splits.get(split)
    leaves_out = published is not None and sum(len(fields) == width for fields in body) == published.rows
    for number, fields in enumerate(body, start=first):
        if len(fields) < width and leaves_out:
            continue
        if len(fields) != width:
            raise InputError(f"{path}: line {number}: {len(fields)} fields; allowed is {width}")
        texts = [fields[places[name]] for name in task.text_columns]
        label = _parse_label(fields[places["label"]], task, path, number) if labelled else UNLABELLED
        rows.append([*texts, label])
    names = [*task.text_columns, "label"]
    features = Features(
        {name: Value("string") for name in task.text_columns}
        | {"label": Value("int64") if task.labels else Value("float32")}
    )
    return Dataset.from_dict(
        {name: [row[i] for row in rows] for i, name in enumerate(names)}, features=features
    )


def _find_columns(path: Path, lines: list[list[str]], task: Task, labelled: bool) -> dict[str, int]:
    header = lines[0] if lines else []
    wanted = [*task.text_columns, *(["label"] if labelled else [])]
    places = {}
    for name in wanted:
        title = task.tsv.columns.get(name, name)
        if title not in header:
            raise InputError(f"{path}: column {title} is missing; found {', '.join(header) or 'no header'}")
        places[name] = header.index(title)
    return places


def _parse_label(text: str, task: Task, path: Path, line: int) -> int | float:
    if text in task.labels:
        return task.labels.index(text)
    try:
        return int(text) if task.labels else float(text)
    except ValueError as error:
        allowed = ", ".join(task.labels) or "a number"
        raise InputError(f"{path}: line {line}: label {text}; allowed is {allowed}") from error
