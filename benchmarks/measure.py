"""Time the methods in interleaved rounds in one process, and weigh each in a process of its own."""

import ctypes
import gc
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.methods import Setting, Trainee, build_trainees
from glue_harness.hardware import keep_freed_memory

Round = dict[str, dict[str, float]]
"""A quantity's name to a method's name to seconds, all from one round."""

QUANTITIES = ("forward_backward", "step", "forward")
"""Training without the optimiser, training with it, and an evaluation's forward pass."""

CALM = 0.05
"""Share of the cores' time that other processes may take before a round counts as disturbed."""

PROC = Path("/proc")


def time_rounds(trainees: dict[str, Trainee]) -> Iterator[Round | None]:
    """Yield round after round, without end; None stands for one that other processes disturbed.

    Every method is measured once a round, in an order drawn anew, so that what the machine does meanwhile
    meets all alike; ratios are taken within a round. A first step of each, untimed, makes its buffers.
    """
    for trainee in trainees.values():
        trainee.propagate()
        trainee.update()
    gc.collect()
    order = random.Random(0)
    while True:
        times: Round = {quantity: {} for quantity in QUANTITIES}
        gc.disable()
        others = _Others()
        for name in order.sample(list(trainees), len(trainees)):
            trainee = trainees[name]
            times["forward_backward"][name] = _time(trainee.propagate)
            times["step"][name] = times["forward_backward"][name] + _time(trainee.update)
            times["forward"][name] = _time(trainee.evaluate)
        yield times if others.share() < CALM else None
        gc.enable()


def measure_peak(name: str, setting: Setting, model: str) -> int:
    """Return the peak resident memory of this process in two training steps, in bytes; Linux only.

    The building of the model does not count: what it leaves to the allocator is given back first.
    """
    (trainee,) = build_trainees([name], setting, model).values()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    (PROC / "self/clear_refs").write_text("5")  # resets VmHWM to what is resident now
    for _ in range(2):  # the second step meets the optimiser's state, too
        trainee.propagate()
        trainee.update()
    found = re.search(r"VmHWM:\s+(\d+) kB", (PROC / "self/status").read_text())
    assert found is not None
    return int(found.group(1)) * 1024


def measure_peak_apart(name: str, setting: Setting, model: str) -> int:
    """Measure a peak as `measure_peak` does, in a process that has done nothing else."""
    arguments = [name, str(setting.rows), str(setting.tokens), setting.precision, model]
    command = [sys.executable, "-m", "benchmarks.measure", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1])


def _time(call: Callable[[], None]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


class _Others:
    """What processes other than this one take of our cores' time, from now on; 0 where there is no /proc."""

    def __init__(self) -> None:
        self._begin = self._read()

    def share(self) -> float:
        """Return it as a share of all the time there was."""
        wall, own, busy = (end - begin for end, begin in zip(self._read(), self._begin, strict=True))
        return max(0.0, busy - own) / (wall * len(os.sched_getaffinity(0)))

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Return wall-clock, this process's and all processes' seconds."""
        busy = 0.0
        if (PROC / "stat").is_file():
            user, nice, system, _, _, irq, softirq, steal, *_ = (
                int(ticks) for ticks in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
            )
            busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), time.process_time(), busy


if __name__ == "__main__":
    method, rows, tokens, precision, model_name = sys.argv[1:]
    keep_freed_memory()
    print(measure_peak(method, Setting(int(rows), int(tokens), precision), model_name))
