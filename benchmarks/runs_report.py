"""What `benchmarks.runs` measured: a JSON file of raw times, and the tables that derive from it."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.epoch import COMPETITORS, RANK, Course
from benchmarks.methods import FLOOR, METHODS
from benchmarks.report import MEBIBYTE, describe_machine, lay_out, reopen, show_machine
from glue_harness.io import write_atomically

Results = dict[str, Any]
"""machine (what measured), course (what was trained), and parts: name to what `benchmarks.runs` found."""


def open_results(path: Path, course: Course) -> Results:
    """Return the results at `path` if they are of this machine, commit and course; else begin new ones."""
    return reopen(path, {"machine": describe_machine(), "course": describe_course(course), "parts": {}})


def describe_course(course: Course) -> dict[str, Any]:
    """Describe what was trained, without where its data lies."""
    described = dataclasses.asdict(course)
    return {name: described[name] for name in ("model", "task", "steps", "threads")} | {"rank": RANK}


def write_results(results: Results, folder: Path) -> str:
    """Write the JSON and the Markdown tables, and return the tables."""
    text = render(results)
    write_atomically(folder / "runs.json", (json.dumps(results, indent=1) + "\n").encode())
    write_atomically(folder / "runs.md", text.encode())
    return text


def render(results: Results) -> str:
    """Lay out the parts that there are."""
    course = results["course"]
    length = "one epoch" if course["steps"] is None else f"{course['steps']} steps"
    blocks = [f"# Cost of whole runs: {course['model']}, {course['task']}, rank {course['rank']}, {length}\n"]
    parts: dict[str, Callable[[Any], str]] = {
        "epochs": _lay_out_epochs,
        "cores": _lay_out_cores,
        "sweep": _lay_out_sweep,
        "growth": _lay_out_growth,
    }
    blocks += [show(results["parts"][name]) for name, show in parts.items() if name in results["parts"]]
    return "\n".join([*blocks, f"Machine: {show_machine(results['machine'])}\n"])


def _lay_out_epochs(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    def total(times: Mapping[str, float]) -> float:
        return times["train_seconds"] + times["eval_seconds"]

    rows = {}
    for name, title in COMPETITORS.items():
        own = [times[name] for times in rounds]
        over = statistics.median(total(times[name]) / total(times["fast"]) for times in rounds)
        start = "--" if name == "floor" else f"{_median(own, 'start_seconds'):.1f} s"
        rows[title] = [
            f"{statistics.median(map(total, own)):.1f} s",
            f"{over:.2f}",
            f"{statistics.median(run['examples'] / run['train_seconds'] for run in own):.1f}",
            f"{_median(own, 'peak_bytes') / MEBIBYTE:,.0f}",
            start,
        ]
    floor = statistics.median(total(times["fast"]) / total(times["floor"]) for times in rounds)
    header = ["with evaluation", "over `fast`", "examples/s", "peak MiB", "start to first step"]
    return lay_out("Training", header, rows) + (
        f"\nMedians of {len(rounds)} rounds, each run a fresh process; ratios within a round. `fast` takes "
        f"{floor:.3f} of its floor's time. Examples a second are of training alone. The plain references are "
        "transformers' Trainer and PEFT's DoRA in fp32 (benchmarks/plain.py).\n"
    )


def _lay_out_cores(rounds: Sequence[Mapping[str, float]]) -> str:
    ratio = statistics.median(times["a_run_a_core"] / times["one_run"] for times in rounds)
    rows = {
        "One run on all cores": [f"{_median(rounds, 'one_run'):.1f}", "1.00"],
        "One single-threaded run a core": [f"{_median(rounds, 'a_run_a_core'):.1f}", f"{ratio:.2f}"],
    }
    return lay_out("`fast`, all cores in use", ["examples/s", "ratio"], rows)


def _lay_out_sweep(rounds: Sequence[Mapping[str, float]]) -> str:
    titles = {
        "sweep": "A sweep",
        "processes": "Processes one after the other, a thread each",
        "processes_on_all_cores": "Processes one after the other, all cores each",
    }
    rows = {}
    for name, title in titles.items():
        ratio = statistics.median(times[name] / times["sweep"] for times in rounds)
        rows[title] = [f"{_median(rounds, name):.1f} s", f"{ratio:.2f}"]
    title = f"{rounds[0]['runs']:.0f} short runs, {_median(rounds, 'training_a_run'):.1f} s of training each"
    outside = _median(rounds, "outside_training_and_evaluation_a_run")
    return lay_out(title, ["from start to end", "over the sweep"], rows) + (
        f"\nA run of the sweep spends {outside:.1f} s outside training and evaluation.\n"
    )


def _lay_out_growth(axes: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    blocks = []
    for axis, points in axes.items():
        rows = {
            METHODS[name]: [_show_step(point["rounds"], name) for point in points]
            for name in points[0]["rounds"][0]
        }
        blocks.append(lay_out(f"Step, by {axis}", [str(point[axis]) for point in points], rows))
    return "\n".join(blocks) + (
        "\nOf roberta_base_random, 8 rows, fp32, with rank 16, 64 tokens and 12 layers where they stay. "
        "A cell is the median over rounds of the time over the floor's, and the median time.\n"
    )


def _show_step(rounds: Sequence[Mapping[str, float]], name: str) -> str:
    ratio = statistics.median(times[name] / times[FLOOR] for times in rounds)
    return f"{ratio:.3f} ({_median(rounds, name):.3f} s)"


def _median(rounds: Sequence[Mapping[str, float]], quantity: str) -> float:
    return statistics.median(times[quantity] for times in rounds)
