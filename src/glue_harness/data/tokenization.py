"""A split's token ids: computed once, then read from a cache on disk that all runs of a machine share."""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from edora.cache import read_tensors, write_tensors

if TYPE_CHECKING:  # planning a sweep needs no transformers
    from transformers import PreTrainedTokenizerBase

KIND = "tokens"
LAYOUT = 1
"""Counts the ways in which tokens have been kept: what an older version wrote has another key."""


@dataclass(frozen=True)
class Tokens:
    """Rows of token ids, one after the other: `encodings` maps a model's inputs to (tokens,).

    Row i is `bounds[i]` to `bounds[i + 1]` of each; `bounds` is (rows + 1,). `truncated_rows` says how many
    of the texts had more tokens than were kept.
    """

    encodings: Mapping[str, np.ndarray]
    bounds: np.ndarray
    truncated_rows: int

    def row(self, row: int) -> dict[str, list[int]]:
        """Return one row's ids by input."""
        begin, end = self.bounds[row], self.bounds[row + 1]
        return {name: ids[begin:end].tolist() for name, ids in self.encodings.items()}

    def select(self, rows: Sequence[int]) -> Tokens:
        """Return the given rows, in the given order."""
        spans = [slice(self.bounds[row], self.bounds[row + 1]) for row in rows]
        return Tokens(
            {name: np.concatenate([ids[span] for span in spans]) for name, ids in self.encodings.items()},
            _bound([span.stop - span.start for span in spans]),
            self.truncated_rows,
        )


def tokenise_texts(
    columns: Sequence[list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Tokens:
    """Return the tokens of sentences or pairs, at most `max_length` a row, from the cache if it has them.

    `columns` holds one list of texts, or two of the same length.
    """
    key = _name(columns, tokenizer, max_length)
    kept = read_tensors(key, KIND)
    if kept is not None:
        bounds, truncated = kept.pop("bounds").numpy(), int(kept.pop("truncated_rows"))
        return Tokens({name: ids.numpy() for name, ids in kept.items()}, bounds, truncated)
    tokens = _compute(columns, tokenizer, max_length)
    kept = {name: torch.from_numpy(ids) for name, ids in tokens.encodings.items()}
    kept |= {"bounds": torch.from_numpy(tokens.bounds), "truncated_rows": torch.tensor(tokens.truncated_rows)}
    write_tensors(key, kept, KIND, keeps_earlier=True)  # others hold it mapped as long as they train
    return tokens


def _compute(columns: Sequence[list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Tokens:
    encodings = tokenizer(*columns, truncation=True, max_length=max_length)
    lengths = [len(ids) for ids in encodings["input_ids"]]
    full = [row for row, length in enumerate(lengths) if length == max_length]
    truncated = 0
    if full:
        whole = tokenizer(*([column[row] for row in full] for column in columns), verbose=False)
        truncated = sum(len(ids) > max_length for ids in whole["input_ids"])
    flat = {name: _flatten(rows) for name, rows in encodings.items()}
    return Tokens(flat, _bound(lengths), truncated)


def _flatten(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Put rows of ids one after the other; a byte an id is enough for masks and types."""
    ids = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int32)  # (tokens,)
    return ids.astype(np.uint8) if ids.max(initial=0) < 2**8 else ids


def _bound(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])  # (rows + 1,)


def _name(columns: Sequence[list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> str:
    """Name tokens by all that they depend on: texts, tokeniser, length, and the versions that make them."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    for left_by_the_last_call in ("truncation", "padding"):
        backend.pop(left_by_the_last_call)
    settings = {
        "layout": LAYOUT,
        "backend": backend,
        "inputs": tokenizer.model_input_names,
        "special": [tokenizer.split_special_tokens, tokenizer.truncation_side, tokenizer.padding_side],
        "max_length": max_length,
        "versions": {name: importlib.metadata.version(name) for name in ("tokenizers", "transformers")},
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(json.dumps(columns).encode())
    return digest.hexdigest()
