"""ENTRY: `python -m benchmarks.runs`: time whole trainings, sweeps, and how a step's time grows.

Each part is measured anew and written to the results folder as soon as it stands; the other parts stay.
"""

import argparse
import dataclasses
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.epoch import COMPETITORS, MODEL, RANK, TASK, Course
from benchmarks.measure import time_rounds
from benchmarks.methods import FLOOR, Setting, build_trainees
from benchmarks.runs_report import Results, open_results, write_results
from glue_harness.cli.common import command_line
from glue_harness.errors import InputError, require_one_of
from glue_harness.hardware import keep_freed_memory

CORES = len(os.sched_getaffinity(0))
SWEEP_RUNS = 8
SWEEP_STEPS = 40
"""About ten seconds of training, here."""

GROWTH_MODEL = "roberta_base_random"
GROWTH_METHODS = (FLOOR, "lora", "edora")
GROWTH = {
    "rank": [{"rank": rank} for rank in (4, 16, 64, 256)],
    "tokens": [{"tokens": tokens} for tokens in (32, 128, 512)],
    "layers": [{"layers": layers} for layers in (6, 12, 24)],
}
"""What grows while the rest stays at 8 rows of 64 tokens, rank 16 and 12 layers, in fp32."""


def measure_epochs(course: Course, rounds: int) -> list[dict[str, Any]]:
    """Run every competitor once a round, each in a fresh process, in an order drawn anew."""
    order, found = random.Random(0), []
    for number in range(rounds):
        times = {}
        for name in order.sample(list(COMPETITORS), len(COMPETITORS)):
            times[name] = _finish(_start(name, course), name)
            print(f"round {number + 1}: {name} {times[name]['train_seconds']:.1f} s", file=sys.stderr)
        found.append(times)
    return found


def measure_cores(course: Course, rounds: int) -> list[dict[str, float]]:
    """Compare one run on all cores with a single-threaded run a core: examples trained a second."""
    single, found = dataclasses.replace(course, threads=1), []
    for _ in range(rounds):
        alone = [_finish(_start("fast", course), "fast")]
        side_by_side = [_start("fast", dataclasses.replace(single, seed=seed + 1)) for seed in range(CORES)]
        together = [_finish(child, "fast") for child in side_by_side]
        found.append({"one_run": _sum_pace(alone), "a_run_a_core": _sum_pace(together)})
    return found


def measure_sweep(course: Course, rounds: int) -> list[dict[str, float]]:
    """Run a sweep of short runs, and the same runs as processes one after the other: seconds.

    These have a thread each, as a run of a sweep has, and then all cores each.
    """
    short, found = dataclasses.replace(course, steps=SWEEP_STEPS), []
    for _ in range(rounds):
        times = {}
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            subprocess.run(_sweep_command(short, folder), check=True, stdout=subprocess.DEVNULL)
            times["sweep"] = time.perf_counter() - begin
            records = [json.loads(path.read_text()) for path in Path(folder).rglob("record.json")]
        costs = [record["cost"] for record in records]
        times["runs"] = len(costs)
        times["training_a_run"] = sum(cost["train_seconds"] for cost in costs) / len(costs)
        times["outside_training_and_evaluation_a_run"] = sum(
            cost["total_seconds"] - cost["train_seconds"] - cost["eval_seconds"] for cost in costs
        ) / len(costs)
        for name, threads in (("processes", 1), ("processes_on_all_cores", CORES)):
            begin = time.perf_counter()
            for seed in range(1, SWEEP_RUNS + 1):
                _finish(_start("fast", dataclasses.replace(short, seed=seed, threads=threads)), "fast")
            times[name] = time.perf_counter() - begin
        found.append(times)
    return found


def measure_growth(rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Time training steps while one of rank, tokens and layers grows."""
    torch.set_num_threads(CORES)
    keep_freed_memory()
    return {axis: [_time_point(point, rounds) for point in points] for axis, points in GROWTH.items()}


def _time_point(point: dict[str, int], rounds: int) -> dict[str, Any]:
    values = {"rank": RANK, "tokens": 64, "layers": 12, **point}
    trainees = build_trainees(
        GROWTH_METHODS,
        Setting(8, values["tokens"], "fp32"),
        GROWTH_MODEL,
        rank=values["rank"],
        layers=values["layers"],
    )
    print(f"growth: {values}", file=sys.stderr)
    taken = itertools.islice((times for times in time_rounds(trainees) if times is not None), rounds)
    return {**values, "rounds": [times["step"] for times in taken]}


def _start(name: str, course: Course) -> tuple[subprocess.Popen[str], float]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.epoch", name]
    command.append(json.dumps(dataclasses.asdict(course)))
    environment = {**os.environ, "OMP_NUM_THREADS": str(course.threads), "TOKENIZERS_PARALLELISM": "false"}
    begin = time.time()
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment), begin


def _finish(child: tuple[subprocess.Popen[str], float], name: str) -> dict[str, float]:
    """Wait for a child and return what it measured, with the seconds from its start to its first step."""
    process, begin = child
    output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{name} ended with exit code {process.returncode}; its error stands above")
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    found["start_seconds"] = found.pop("first_step_at") - begin
    return found


def _sum_pace(runs: Sequence[dict[str, float]]) -> float:
    return sum(run["examples"] / run["train_seconds"] for run in runs)


def _sweep_command(course: Course, folder: str) -> list[str]:
    seeds = ",".join(str(seed) for seed in range(1, SWEEP_RUNS + 1))
    command = [sys.executable, "-m", "glue_harness", "train", "-m", *course.overrides(), "method=edora"]
    return [*command, f"seed={seeds}", f"runs_dir={folder}"]


def measure(arguments: argparse.Namespace) -> str:
    """Measure the chosen parts, keep them in their folder, and return the tables.

    Raises:
        InputError: a part that does not exist, or a folder without GLUE.
    """
    course = Course(str(Path(arguments.glue_root).resolve()), threads=CORES, steps=arguments.steps)
    parts: dict[str, Callable[[], Any]] = {
        "epochs": lambda: measure_epochs(course, arguments.rounds),
        "cores": lambda: measure_cores(course, arguments.rounds),
        "sweep": lambda: measure_sweep(course, arguments.rounds),
        "growth": lambda: measure_growth(arguments.rounds),
    }
    for part in arguments.parts:
        require_one_of("parts", part, tuple(parts))
    needs_glue = set(arguments.parts) - {"growth"}
    if needs_glue and not Path(arguments.glue_root, TASK).is_dir():
        raise InputError(f"glue-root={arguments.glue_root}: allowed is a folder that holds {TASK}/")
    folder = Path(arguments.out)
    results: Results = open_results(folder / "runs.json", course)
    for part in arguments.parts:
        results["parts"][part] = parts[part]()
        write_results(results, folder)
    return write_results(results, folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line; bad input is one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runs", description=__doc__)
    parser.add_argument("--parts", nargs="+", default=["epochs", "cores", "sweep", "growth"])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each part")
    parser.add_argument("--steps", type=int, help=f"steps of {MODEL} on {TASK} instead of an epoch")
    parser.add_argument("--glue-root", default="glue", help="GLUE from a clone of nyu-mll/glue")
    parser.add_argument("--out", default="results/bench", help="folder of runs.json and runs.md")
    with command_line():
        print(measure(parser.parse_args(argv)), end="")


if __name__ == "__main__":
    main()
