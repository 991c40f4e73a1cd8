"""What this machine is, as far as it can change a result or explain a time."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from glue_harness.config import InputError, Trainer


class Environment(BaseModel):
    """What the machine adds to a configuration: everything here can change a result's bits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    precision: str
    threads: int | None
    processes: int


def resolve_environment(trainer: Trainer) -> Environment:
    """Return the device type, precision, threads and processes a run gets here.

    On CPU a run has one thread: the number of threads changes bits, and several runs fill the cores.

    Raises:
        InputError: bf16 is demanded of hardware that does not have it.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = trainer.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    elif precision == "bf16" and not has_bf16(device):
        raise InputError(f"trainer.precision=bf16: this {device} has no bf16; allowed is fp32 or auto")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return Environment(
        device=device, precision=precision, threads=1 if device == "cpu" else None, processes=processes
    )


def has_bf16(device: str) -> bool:
    """Say whether `device` multiplies bf16 in hardware, not by emulation."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def runs_at_once() -> int:
    """Return how many runs a sweep keeps going on this machine: one a GPU, or one a core."""
    return torch.cuda.device_count() or len(os.sched_getaffinity(0))


def describe() -> str:
    """Name the processor or GPU that the run's times were measured on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory_bytes() -> int:
    """Return the peak memory of this process so far: allocated on the GPU, or resident on CPU, in bytes."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
