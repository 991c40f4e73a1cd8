"""The processes that share one run, as torchrun starts them: who each is, and what they agree on.

torch is imported where it is asked: a plan only needs their number.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from glue_harness.errors import InputError

if TYPE_CHECKING:
    from torch import nn
    from torch.distributed import Store

T = TypeVar("T")

SET_BY_TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
FAILURE = "glue_harness_failure"
_board: Store | None = None
"""torchrun's key-value store, which outlives each process; None before `join`, and for a process alone."""


def count_processes() -> int:
    """Return how many processes share a run here: 1, unless torchrun says otherwise.

    Raises:
        InputError: there are several, and nothing says which of them this one is.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    missing = [name for name in SET_BY_TORCHRUN if name not in os.environ]
    if processes > 1 and missing:
        raise InputError(
            f"WORLD_SIZE={processes}: {missing[0]} is not set; allowed is 1, or what torchrun sets"
        )
    return processes


def process_rank() -> int:
    """Return this process's number among those that share the run: 0, 1, …"""
    return int(os.environ["RANK"]) if count_processes() > 1 else 0


def is_first() -> bool:
    """Say whether this process is the one that owns the run's folder and writes everything down."""
    return process_rank() == 0


def refuse_sweep() -> None:
    """Refuse a sweep in a process that torchrun started: a sweep's runs are a fresh process each.

    Raises:
        InputError: torchrun started this process.
    """
    if "LOCAL_RANK" in os.environ:
        raise InputError(
            f"torchrun with WORLD_SIZE={count_processes()}: a sweep (-m, experiment=…) is not for torchrun; "
            "allowed is one run"
        )


def join(device: str) -> None:
    """Connect this process to those it shares the run with, if there are any: a GPU each, or none.

    Raises:
        InputError: there are fewer GPUs here than processes.
    """
    global _board
    if count_processes() == 1:
        return
    import torch

    if device == "cuda":
        _take_own_gpu()
    store, rank, processes = next(torch.distributed.rendezvous("env://"))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # what an earlier one left is not for us
    _board = torch.distributed.PrefixStore(f"attempt_{attempt}", store)
    backend = "nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=_board, rank=rank, world_size=processes)


def _take_own_gpu() -> None:
    import torch

    local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local_rank >= gpus:
        raise InputError(f"LOCAL_RANK={local_rank}: allowed is 0 to {gpus - 1}: a process has its own GPU")
    torch.cuda.set_device(local_rank)


def leave() -> None:
    """Wait for the others at a run's end and disconnect.

    torchrun ends all processes as soon as one ends with an exit code of its own: one that has failed does not
    wait, and the others must not end while the first still writes the record.
    """
    if count_processes() > 1:
        import torch

        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def tell_failure(error: str) -> None:
    """Leave for the first process why this one fails; who then fails of the lost connection adds nothing."""
    if _board is not None:
        _board.compare_set(FAILURE, "", f"process {process_rank()}: {error}")


def hear_failure() -> str | None:
    """Return why another process failed, or None where none has said so."""
    return _board.get(FAILURE).decode() if _board is not None and _board.check([FAILURE]) else None


def share_buffers(model: nn.Module) -> None:
    """Give every process the first one's buffers, as DistributedDataParallel does with parameters.

    Frozen bases are buffers, and another processor's SVD may have other signs.
    """
    if count_processes() == 1:
        return
    import torch

    for buffer in model.buffers():
        shared = buffer.contiguous()
        torch.distributed.broadcast(shared, src=0)
        buffer.copy_(shared)


def agree(decide: Callable[[], T]) -> T:
    """Return what the first process decides; the others wait for it and are not asked."""
    if count_processes() == 1:
        return decide()
    import torch

    decision = [decide() if is_first() else None]
    torch.distributed.broadcast_object_list(decision, src=0)
    return decision[0]  # type: ignore[return-value]
