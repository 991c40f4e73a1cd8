"""What a failure means to its user: a full disk or too little memory is said in one line, with what to do."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from glue_harness.arguments import micro_batch_size
from glue_harness.config import Config
from glue_harness.files import free_space
from glue_harness.hardware import Environment

FULL = (errno.ENOSPC, errno.EDQUOT)
SPARE_BYTES = 2**16
"""A disk with less than this left is full, though what failed there may not say so: see torch's writer."""


def describe_failure(error: Exception, config: Config, environment: Environment, folder: Path) -> str:
    """Return the traceback of what ended a run's attempt; its last line says what that means, if known."""
    text = "".join(traceback.format_exception(error))
    if _is_out_of_memory(error):
        rows = micro_batch_size(config, environment)
        return (
            f"{text}out of memory: set trainer.device_batch_size below {rows} (the global batch stays "
            f"{config.trainer.batch_size}), or trainer.eval_batch_size below {config.trainer.eval_batch_size}"
        )
    if _is_disk_full(error, folder):
        return f"{text}no space left on the disk of {folder}: with space, the same command goes on from there"
    return text


def _is_out_of_memory(error: Exception) -> bool:
    """Say whether memory ran out; torch's allocator for the CPU has no exception of its own."""
    return any(
        isinstance(link, MemoryError | torch.OutOfMemoryError)
        or (isinstance(link, RuntimeError) and "can't allocate memory" in str(link))
        for link in _chain(error)
    )


def _is_disk_full(error: Exception, folder: Path) -> bool:
    told = any(
        (isinstance(link, OSError) and link.errno in FULL) or os.strerror(errno.ENOSPC) in str(link)
        for link in _chain(error)  # safetensors and tokenizers raise a bare Exception
    )
    return told or free_space(folder) < SPARE_BYTES


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
