"""From a source of GLUE, a task and a tokenizer to tokenised splits and batches.

Three sources, never one in another's place: `hub` (nyu-mll/glue at a pinned commit), `local` (a folder in
the same parquet layout) and `miniature` (made by code). None of them executes code from data.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet
import torch
from datasets import ClassLabel, Dataset

from glue_harness import miniature
from glue_harness.config import Data, InputError, Task
from glue_harness.seeding import epoch_generator

if TYPE_CHECKING:  # planning a sweep needs no transformers
    from transformers import PreTrainedTokenizerBase

HUB_DATASET = "nyu-mll/glue"
HUB_TIMEOUT_SECONDS = 3.0
UNLABELLED = -1
RUN_SPLITS = ("train", "validation")
BUCKET_BATCHES = 32


def load_split(data: Data, task: Task, split: str) -> Dataset:
    """Return one split of a task: its text columns and `label`, mapped by name onto `task.labels`.

    Raises:
        InputError: the source is missing, damaged, or holds other content than the published one.
    """
    if data.name == "miniature":
        return Dataset.from_dict(dict(miniature.generate(task.name)[split]))
    path = _find_file(data, task, split)
    dataset = _map_labels(_read_parquet(path), task, path)
    _check_published(dataset, task, split, path)
    return dataset


def check_source(data: Data, task: Task) -> None:
    """Make sure that the files a run reads are there, fetching them from the hub if need be.

    Raises:
        InputError: a file is missing, or the hub is out of reach.
    """
    if data.name != "miniature":
        for split in RUN_SPLITS:
            _find_file(data, task, split)


def fingerprint(dataset: Dataset, task: Task) -> str:
    """Return the sha256 of a split's content: every row's texts and label, whatever file they came from."""
    digest = hashlib.sha256()
    columns = [dataset[name] for name in task.text_columns]
    for *texts, label in zip(*columns, dataset["label"], strict=True):
        shown = "" if label == UNLABELLED else task.labels[label] if task.labels else f"{label:.3f}"
        digest.update("\x1f".join([*texts, shown]).encode() + b"\x1e")
    return digest.hexdigest()


def content_identity(data: Data, task: Task) -> dict[str, str]:
    """Return what a run's data are, split by split, without reading published files.

    The published fingerprint stands for `hub` and `local` alike, since loading checks it; a split whose
    fingerprint is not known is named by its number of rows. `miniature` is generated and hashed.
    """
    if data.name == "miniature":
        return _miniature_identity(task.name, tuple(task.text_columns), tuple(task.labels))
    published = {name: task.splits[name] for name in RUN_SPLITS}
    return {name: split.sha256 or f"{split.rows} rows" for name, split in published.items()}


@functools.cache
def _miniature_identity(name: str, text_columns: tuple[str, ...], labels: tuple[str, ...]) -> dict[str, str]:
    task = Task(name=name, text_columns=list(text_columns), labels=list(labels))
    return {split: fingerprint(load_split(Data("miniature"), task, split), task) for split in RUN_SPLITS}


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
    path = root / task.name / f"{split}-00000-of-00001.parquet"
    if not root.is_dir():
        raise InputError(
            f"data.root={root}: there is no such folder; allowed is a clone of {HUB_DATASET}'s parquet files"
        )
    if not path.is_file():
        raise InputError(f"data.root={root}: {path} is missing; needed for task={task.name}")
    return path


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
        try:
            get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_SECONDS)
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
    names = (
        dataset.features["label"].names if isinstance(dataset.features["label"], ClassLabel) else task.labels
    )
    if not task.labels or names == task.labels:
        return dataset
    unknown = sorted(set(names) - set(task.labels))
    if unknown:
        raise InputError(f"{path}: label {unknown[0]} is unknown; allowed is {', '.join(task.labels)}")
    by_id = {UNLABELLED: UNLABELLED} | {i: task.labels.index(name) for i, name in enumerate(names)}
    labels = [by_id[label] for label in dataset["label"]]
    return dataset.remove_columns("label").add_column("label", labels)


def _check_published(dataset: Dataset, task: Task, split: str, path: Path) -> None:
    published = task.splits.get(split)
    if published is None:
        return
    if len(dataset) != published.rows:
        raise InputError(f"{path}: {len(dataset)} rows; allowed is the published {published.rows}")
    if published.sha256 and (found := fingerprint(dataset, task)) != published.sha256:
        raise InputError(
            f"{path}: content {found[:12]}… differs; allowed is the published {published.sha256[:12]}…"
        )


@dataclass(frozen=True)
class TokenisedSplit(torch.utils.data.Dataset):
    """Tokenised rows, as `transformers.Trainer` takes them; `encodings` maps model inputs to lists of ids."""

    encodings: Mapping[str, Sequence[Sequence[int]]]
    labels: Sequence[int] | Sequence[float]
    truncated_rows: int

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, object]:
        return {name: ids[row] for name, ids in self.encodings.items()} | {"labels": self.labels[row]}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, special tokens included: (rows,)."""
        return np.array([len(ids) for ids in self.encodings["input_ids"]])

    def select(self, rows: Sequence[int]) -> TokenisedSplit:
        """Return the given rows, in the given order."""
        encodings = {name: [ids[row] for row in rows] for name, ids in self.encodings.items()}
        return TokenisedSplit(encodings, [self.labels[row] for row in rows], self.truncated_rows)


def tokenise(
    dataset: Dataset, task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenisedSplit:
    """Tokenise a split's sentences or pairs to at most `max_length` tokens, counting the rows cut short."""
    columns = [list(dataset[name]) for name in task.text_columns]
    encodings = dict(tokenizer(*columns, truncation=True, max_length=max_length))
    full = [row for row, ids in enumerate(encodings["input_ids"]) if len(ids) == max_length]
    truncated = 0
    if full:
        whole = tokenizer(*([column[row] for row in full] for column in columns), verbose=False)
        truncated = sum(len(ids) > max_length for ids in whole["input_ids"])
    return TokenisedSplit(encodings, list(dataset["label"]), truncated)


class EpochBatches(torch.utils.data.Sampler[list[int]]):
    """This process's micro-batches of one epoch, cut from global batches that no layout changes.

    An epoch's order is a permutation from (seed, epoch). With `buckets`, windows of `BUCKET_BATCHES` global
    batches are sorted by length and the batches shuffled, so a batch holds rows of similar length while a row
    moves at most a window from its drawn place before the shuffle. A short batch always comes last.
    """

    def __init__(
        self,
        lengths: np.ndarray,  # (rows,)
        batch_size: int,
        device_batch_size: int,
        seed: int,
        buckets: bool,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.device_batch_size = device_batch_size
        self.seed = seed
        self.buckets = buckets
        self.process = process
        self.processes = processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (0, 1, …) whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        per_step = self.device_batch_size * self.processes
        whole, rest = divmod(len(self.lengths), self.batch_size)
        return whole * (self.batch_size // per_step) + -(-rest // per_step)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.global_batches():
            steps = -(-len(batch) // (self.device_batch_size * self.processes))
            parts = np.array_split(batch, steps * self.processes)
            for step in range(steps):
                yield parts[step * self.processes + self.process].tolist()

    def global_batches(self) -> list[np.ndarray]:
        """Return the epoch's global batches of row numbers, the short one last."""
        generator = epoch_generator(self.seed, self.epoch)
        order = generator.permutation(len(self.lengths))
        if not self.buckets:
            return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        window = BUCKET_BATCHES * self.batch_size
        windows = [order[i : i + window] for i in range(0, len(order), window)]
        order = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in windows])
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        short = [batches.pop()] if len(batches[-1]) < self.batch_size else []
        return [batches[i] for i in generator.permutation(len(batches))] + short


class EpochLoader(torch.utils.data.DataLoader):
    """A DataLoader over `EpochBatches` that passes the epoch on, as `Trainer` expects of its loaders."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (0, 1, …) of the next iteration."""
        assert isinstance(self.batch_sampler, EpochBatches)
        self.batch_sampler.set_epoch(epoch)
