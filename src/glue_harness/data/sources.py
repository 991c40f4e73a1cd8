"""Rows of GLUE from one of three sources, never one in another's place, checked against what is published.

`hub` is nyu-mll/glue at a pinned commit; `local` is a folder, either that repository's parquet files or the
TSV folders of the GLUE download; `miniature` is made by code. None of them executes code from data.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet
from datasets import ClassLabel, Dataset, concatenate_datasets

from glue_harness.config.schema import Data, Task
from glue_harness.data import miniature
from glue_harness.data.fingerprint import UNLABELLED, fingerprint
from glue_harness.data.tsv import read_tsv, tsv_path
from glue_harness.errors import InputError, require
from glue_harness.seeding import holdout_generator

HUB_DATASET = "nyu-mll/glue"
HUB_TIMEOUT_SECONDS = 3.0


def load_split(data: Data, task: Task, split: str) -> Dataset:
    """Return one split of a task: its text columns and `label`, mapped by name onto `task.labels`.

    Raises:
        InputError: the source is missing, damaged, or holds other content than the published one.
    """
    if data.name == "miniature":
        return Dataset.from_dict(dict(miniature.generate(task.name)[split]))
    path = _find_file(data, task, split)
    rows = read_tsv(path, task, split) if path.suffix == ".tsv" else _read_parquet(path)
    dataset = _map_labels(rows, task, path)
    _check_published(dataset, task, split, path)
    return dataset


def join_dev(splits: Mapping[str, Dataset], task: Task) -> tuple[Dataset, dict[str, slice]]:
    """Return the rows that runs are scored on, and their named parts where there are several (MNLI's two)."""
    parts, start = {}, 0
    for name in task.dev:
        parts[name.removeprefix("validation_")] = slice(start, start + len(splits[name]))
        start += len(splits[name])
    return concatenate_datasets([splits[name] for name in task.dev]), parts if len(parts) > 1 else {}


def divide(
    splits: Mapping[str, Dataset], task: Task, holdout: float | None
) -> tuple[Dataset, Dataset, dict[str, slice]]:
    """Return the rows a run trains on, the rows it is scored on, and the latter's named parts.

    Raises:
        InputError: a holdout leaves one of the two without rows.
    """
    if holdout is None:
        return splits["train"], *join_dev(splits, task)
    train = splits["train"]
    held = round(holdout * len(train))
    allowed = f"a share of {len(train)} rows that leaves rows on both sides"
    require(0 < held < len(train), "data.holdout", holdout, allowed)
    order = holdout_generator().permutation(len(train))
    return train.select(sorted(order[held:])), train.select(sorted(order[:held])), {}


def _read_parquet(path: Path) -> Dataset:
    try:
        return Dataset(pyarrow.parquet.read_table(path))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a readable parquet file ({reason}); allowed is the hub's file, unchanged"
        ) from error


def _find_file(data: Data, task: Task, split: str) -> Path:
    return _hub_file(data, task, split) if data.name == "hub" else _local_file(data, task, split)


def _local_file(data: Data, task: Task, split: str) -> Path:
    root = Path(data.root or "")
    parquet = root / task.name / f"{split}-00000-of-00001.parquet"
    tsv = tsv_path(root, task, split)
    if not root.is_dir():
        raise InputError(
            f"data.root={root}: there is no such folder; allowed is a clone of {HUB_DATASET}'s parquet "
            "files, or the GLUE download's TSV folders"
        )
    if not parquet.is_file() and not tsv.is_file():
        raise InputError(f"data.root={root}: task={task.name} needs {parquet} or {tsv}; neither is there")
    return parquet if parquet.is_file() else tsv


def _hub_file(data: Data, task: Task, split: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name = f"{task.name}/{split}-00000-of-00001.parquet"
    download = functools.partial(
        hf_hub_download, HUB_DATASET, name, repo_type="dataset", revision=data.revision
    )
    try:
        return Path(download(local_files_only=True))
    except LocalEntryNotFoundError:
        check_hub_reachable(f"task={task.name}", "data=local data.root=<folder>, or data=miniature")
    return Path(download())


def check_hub_reachable(wanted: str, instead: str) -> None:
    """Ask the hub for an answer within seconds, instead of waiting through its client's retries.

    Raises:
        InputError: offline mode is on, or the hub does not answer; the message names `instead`.
    """
    from huggingface_hub import constants, get_session

    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
    if not reason:
        # In a thread of its own: a timeout of the client does not bound the look-up of the name.
        ask = functools.partial(get_session().head, constants.ENDPOINT, timeout=HUB_TIMEOUT_SECONDS)
        try:
            ThreadPoolExecutor(max_workers=1).submit(ask).result(timeout=HUB_TIMEOUT_SECONDS)
        except Exception as error:  # whichever HTTP client the hub's library uses
            reason = f"{constants.ENDPOINT} does not answer: {type(error).__name__}"
    if reason:
        raise InputError(
            f"{wanted}: not in the local cache and the hub is out of reach ({reason}); use {instead}"
        )


def _map_labels(dataset: Dataset, task: Task, path: Path) -> Dataset:
    missing = [name for name in (*task.text_columns, "label") if name not in dataset.column_names]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; found {', '.join(dataset.column_names)}")
    dataset = dataset.select_columns([*task.text_columns, "label"])
    if not task.labels:
        return dataset
    feature = dataset.features["label"]
    names = feature.names if isinstance(feature, ClassLabel) else task.labels
    unknown = sorted(set(names) - set(task.labels))
    if unknown:
        raise InputError(f"{path}: label {unknown[0]} is unknown; allowed is {', '.join(task.labels)}")
    ids = {UNLABELLED: UNLABELLED} | {i: task.labels.index(name) for i, name in enumerate(names)}
    found = dataset["label"][:]
    for row, label in enumerate(found):
        if label not in ids:
            raise InputError(f"{path}: row {row}: label {label}; allowed is 0 to {len(names) - 1}")
    labels = [ids[label] for label in found]
    return dataset.remove_columns("label").add_column("label", labels)


def _check_published(dataset: Dataset, task: Task, split: str, path: Path) -> None:
    if not len(dataset):
        raise InputError(f"{path}: 0 rows; allowed is 1 or more")
    published = task.splits.get(split)
    if published is None:
        return
    if len(dataset) != published.rows:
        note = f" ({task.note})" if task.note else ""
        raise InputError(f"{path}: {len(dataset)} rows; allowed is the published {published.rows}{note}")
    if published.sha256 and (found := fingerprint(dataset, task)) != published.sha256:
        raise InputError(
            f"{path}: content {found[:12]}… differs; allowed is the published {published.sha256[:12]}…"
        )
