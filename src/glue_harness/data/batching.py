"""From rows to tokenised splits, and to batches that no layout of processes changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from datasets import Dataset

from glue_harness.config.schema import Task
from glue_harness.data.tokenization import Tokens, tokenise_texts
from glue_harness.seeding import epoch_generator

if TYPE_CHECKING:  # planning a sweep needs no transformers
    from transformers import PreTrainedTokenizerBase

BUCKET_BATCHES = 32


@dataclass(frozen=True)
class TokenisedSplit(torch.utils.data.Dataset):
    """Tokenised rows, as `transformers.Trainer` takes them.

    `parts` names slices of the rows that are scored apart too.
    """

    tokens: Tokens
    labels: Sequence[int] | Sequence[float]
    parts: Mapping[str, slice] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, object]:
        return self.tokens.row(row) | {"labels": self.labels[row]}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, special tokens included: (rows,)."""
        return np.diff(self.tokens.bounds)

    @property
    def truncated_rows(self) -> int:
        """How many rows were cut short."""
        return self.tokens.truncated_rows

    def select(self, rows: Sequence[int]) -> TokenisedSplit:
        """Return the given rows, in the given order, which no longer has parts."""
        return TokenisedSplit(self.tokens.select(rows), [self.labels[row] for row in rows])


def tokenise(
    dataset: Dataset,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    parts: Mapping[str, slice] | None = None,
) -> TokenisedSplit:
    """Tokenise a split's sentences or pairs to at most `max_length` tokens, or find them tokenised."""
    columns = [dataset[name][:] for name in task.text_columns]
    return TokenisedSplit(tokenise_texts(columns, tokenizer, max_length), dataset["label"][:], parts or {})


class EpochBatches(torch.utils.data.Sampler[list[int]]):
    """This process's micro-batches of one epoch, cut from global batches that no layout changes.

    An epoch's order is a permutation from (seed, epoch). With `buckets`, windows of `BUCKET_BATCHES` global
    batches are sorted by length and the batches shuffled, so a batch holds rows of similar length while a row
    moves at most a window from its drawn place before the shuffle. A short batch always comes last.

    A global batch is cut into shares of at most `device_batch_size` rows, as equal as they can be; where
    there are fewer rows than shares, some are empty.
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
        return whole * -(-self.batch_size // per_step) + -(-rest // per_step)

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


@dataclass(frozen=True)
class ShareCollator:
    """Pads a process's share of a batch. For an empty share a row stands in, without its label.

    The process so takes part in the forward and backward pass as the others wait for it to, and adds nothing.
    """

    pad: Callable[[list[dict[str, object]]], MutableMapping[str, torch.Tensor]]
    stand_in: dict[str, object]

    def __call__(self, rows: list[dict[str, object]]) -> MutableMapping[str, torch.Tensor]:
        """Return the rows as tensors; `labels` has as many rows as there are, 0 for an empty share."""
        batch = self.pad(rows or [self.stand_in])
        batch["labels"] = batch["labels"][: len(rows)]  # (rows,)
        return batch


class EpochLoader(torch.utils.data.DataLoader):
    """A DataLoader over `EpochBatches` that passes the epoch on, as `Trainer` expects of its loaders."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (0, 1, …) of the next iteration."""
        assert isinstance(self.batch_sampler, EpochBatches)
        self.batch_sampler.set_epoch(epoch)
