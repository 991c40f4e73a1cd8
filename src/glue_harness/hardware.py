"""The machine, as far as it can change a result or explain a time.

torch is imported inside the functions that need it: it takes seconds, and a plan only needs names.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from glue_harness.distributed import count_processes
from glue_harness.errors import InputError, require

GPU_POLL_SECONDS = 1.0
SLURM_JOB = "SLURM_JOB_ID"
GPU_DRIVERS = ("nvidiactl", "kfd", "dxg")
"""Files in /dev of the drivers that torch may find a GPU behind: NVIDIA, AMD, and either within Windows."""
ACCELERATE_SWITCHES = (
    *("ACCELERATE_USE_CPU", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"),
    *("ACCELERATE_USE_PARALLELISM_CONFIG", "ACCELERATE_DYNAMO_BACKEND"),
)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # numbers of mallopt's parameters in glibc's malloc.h


class Environment(BaseModel):
    """What the machine adds to a configuration: everything here can change a result's bits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    precision: str
    threads: int | None
    processes: int


def resolve_environment(precision: str) -> Environment:
    """Return the device type, precision, threads and processes a run gets here.

    `precision` is what trainer.precision asks for: `auto`, `bf16` or `fp32`.
    On CPU a process has one thread: the number of threads changes bits, and several runs fill the cores.

    Raises:
        InputError: bf16 is demanded of hardware that does not have it, who shares the run is not told, or
            accelerate is told to train otherwise.
    """
    import torch

    _refuse_accelerate()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    elif precision == "bf16" and not has_bf16(device):
        raise InputError(f"trainer.precision=bf16: this {device} has no bf16; allowed is fp32 or auto")
    return Environment(
        device=device,
        precision=precision,
        threads=1 if device == "cpu" else None,
        processes=count_processes(),
    )


def _refuse_accelerate() -> None:
    """Check that no variable of accelerate's, such as its launcher sets, would have a run made otherwise.

    Raises:
        InputError: one would.
    """
    for name in ACCELERATE_SWITCHES:
        value = os.environ.get(name, "no")
        allowed = "that it is not set: device and processes are what the machine and torchrun give"
        require(value.lower() in ("0", "false", "no", ""), name, value, allowed)


def has_bf16(device: str) -> bool:
    """Say whether `device` multiplies bf16 in hardware, not by emulation."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def forbid_tf32() -> None:
    """Have a GPU multiply fp32 as fp32; torch's convolutions do not, nor matrices in some containers."""
    import torch

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def keep_freed_memory() -> None:
    """Have this process keep the memory that it frees; elsewhere than with glibc, do nothing.

    As it comes, glibc gives every large activation back to the kernel, which clears the same pages anew, one
    fault each, in every step.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def runs_at_once(runs_per_gpu: int) -> int:
    """Return how many runs a sweep keeps going on this machine: so many a GPU, or one a core."""
    return count_gpus() * runs_per_gpu or len(os.sched_getaffinity(0))


def count_gpus() -> int:
    """Return the number of GPUs that torch sees here; without a driver it need not be asked."""
    if not any(Path("/dev", name).exists() for name in GPU_DRIVERS):
        return 0
    import torch

    return torch.cuda.device_count()


def require_one_gpu(environment: Environment) -> None:
    """Check that a run which is one process sees one GPU at most; transformers would use all it sees.

    Raises:
        InputError: several are visible.
    """
    count = count_gpus() if environment.device == "cuda" and environment.processes == 1 else 0
    if count > 1:
        raise InputError(f"{count} GPUs are visible; allowed is one a run: set CUDA_VISIBLE_DEVICES")


@contextlib.contextmanager
def take_gpu(runs_per_gpu: int) -> Iterator[None]:
    """Have one of `runs_per_gpu` places on one GPU of this machine while inside, if there are several GPUs.

    Places are taken on all GPUs alike. Has to be entered before CUDA starts. The kernel frees the place when
    its owner dies.
    """
    count = count_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if len(visible) == count else [str(index) for index in range(count)]
    places = [(name, place) for place in range(runs_per_gpu) for name in names]
    with contextlib.ExitStack() as kept:
        while count > 1 and not any(_lock_gpu(name, place, kept) for name, place in places):
            time.sleep(GPU_POLL_SECONDS)
        yield


def _lock_gpu(name: str, place: int, kept: contextlib.ExitStack) -> bool:
    job = os.environ.get(SLURM_JOB, "")  # each of SLURM's jobs may number GPUs of its own from 0
    path = Path(tempfile.gettempdir(), f"glue-harness-gpu-{job and f'{job}-'}{name}-{place}.lock")
    try:
        if not path.exists():
            path.touch()
            path.chmod(0o644)  # another user has to read it to lock it
        lock = path.open("rb")
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; allowed is a file that all who use the GPU can read"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return False
    kept.enter_context(lock)
    os.environ["CUDA_VISIBLE_DEVICES"] = name
    return True


def describe() -> str:
    """Name the processor or GPU that the run's times were measured on."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory_bytes() -> int:
    """Return the peak memory of this process so far: allocated on the GPU, or resident on CPU, in bytes."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep Python from looking for cycles among many new objects that have none: up to half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
