"""What the measurements say: one JSON file of raw times and peaks, and the table that derives from it."""

import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import QUANTITIES, Round
from benchmarks.methods import FLOOR, METHODS, RANK
from glue_harness import hardware
from glue_harness.io import write_atomically
from glue_harness.runs.record import code_version, package_versions

TITLES = {
    "forward_backward": "Forward and backward",
    "step": "Training step, with clipping and AdamW",
    "forward": "Forward, as in evaluation",
}
PAIRS = (("edora", "lora"), ("dora_factored", "dora"))
"""Methods whose times are set against each other, apart from the floor."""

MEBIBYTE = 2**20

Results = dict[str, Any]
"""machine (what measured), model, rank, and settings: name to rounds, disturbed_rounds and peak_bytes."""


def describe_machine() -> dict[str, Any]:
    """Describe everything that times depend on: hardware, threads, versions and the code's commit."""
    commit, dirty = code_version()
    return {
        "processor": hardware.describe(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "packages": {name: package_versions()[name] for name in ("torch", "transformers", "peft")},
        "commit": commit,
        "dirty": dirty,
    }


def open_results(path: Path, model: str) -> Results:
    """Return the results at `path` if they are of this machine, commit and model; else begin new ones."""
    return reopen(path, {"machine": describe_machine(), "model": model, "rank": RANK, "settings": {}})


def reopen(path: Path, fresh: Results) -> Results:
    """Return the results at `path` if they differ from `fresh` in its last entry alone, which is empty."""
    if not path.is_file() or fresh["machine"]["dirty"]:
        return fresh
    found: Results = json.loads(path.read_text())
    return found if {**found, list(fresh)[-1]: {}} == fresh else fresh


def find_setting(results: Results, name: str) -> dict[str, Any]:
    """Return what is known of a setting, so that more can be put to it."""
    return results["settings"].setdefault(name, {"rounds": [], "disturbed_rounds": 0, "peak_bytes": {}})


def write_results(results: Results, folder: Path) -> str:
    """Write the JSON and the Markdown table, and return the table."""
    table = render(results)
    write_atomically(folder / "layers.json", (json.dumps(results, indent=1) + "\n").encode())
    write_atomically(folder / "layers.md", table.encode())
    return table


def render(results: Results) -> str:
    """Lay the results out: a table for each quantity, methods by settings."""
    settings = results["settings"]
    parts = [f"# Cost of the methods on {results['model']}, rank {results['rank']}\n"]
    for quantity in QUANTITIES:
        rows = {METHODS[name]: [_show_time(s, quantity, name) for s in settings.values()] for name in METHODS}
        for name, other in PAIRS:
            rows[f"{METHODS[name]} over {METHODS[other]}"] = [
                _show_ratio(s["rounds"], quantity, name, other) for s in settings.values()
            ]
        parts.append(lay_out(TITLES[quantity], list(settings), rows))
    peaks = {METHODS[name]: [_show_peak(s, name) for s in settings.values()] for name in METHODS}
    parts.append(lay_out("Peak memory of training, MiB", list(settings), peaks))
    return "\n".join([*parts, *_explain(results)]) + "\n"


def take_ratio(rounds: list[Round], quantity: str, name: str, other: str = FLOOR) -> float | None:
    """Return the median over rounds of a method's time over another's; None if they never met."""
    both = [times[quantity] for times in rounds if {name, other} <= times[quantity].keys()]
    return statistics.median(times[name] / times[other] for times in both) if both else None


def _show_ratio(rounds: list[Round], quantity: str, name: str, other: str) -> str:
    ratio = take_ratio(rounds, quantity, name, other)
    return "--" if ratio is None else f"{ratio:.3f}"


def _show_time(setting: dict[str, Any], quantity: str, name: str) -> str:
    own = [times[quantity][name] for times in setting["rounds"] if name in times[quantity]]
    if not own:
        return "--"
    return f"{_show_ratio(setting['rounds'], quantity, name, FLOOR)} ({statistics.median(own):.3f} s)"


def _show_peak(setting: dict[str, Any], name: str) -> str:
    peak = setting["peak_bytes"].get(name)
    return "--" if peak is None else f"{peak / MEBIBYTE:,.0f}"


def lay_out(title: str, header: list[str], rows: dict[str, list[str]]) -> str:
    """Lay a table out in Markdown."""
    lines = [[title, *header], ["---", *["---:"] * len(header)]]
    lines += [[name, *cells] for name, cells in rows.items()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _explain(results: Results) -> list[str]:
    rounds = "; ".join(
        f"{name}: {len(s['rounds'])} ({s['disturbed_rounds']} disturbed ones left out)"
        for name, s in results["settings"].items()
    )
    return [
        "A cell is the median over rounds of a method's time over the floor's in the same round, and its "
        "median time; the last two rows set one method's time against another's.\n",
        "Floor: the frozen backbone with a trained head and gradients to every layer's input, which all "
        "methods have here. Longhand: EDoRA as published, with a dense (out, in) product and a second pass "
        "through W. bf16 is autocast. Dropout is off; bases are random. A setting is rows x tokens.\n",
        f"Rounds: {rounds}.\n",
        f"Machine: {show_machine(results['machine'])}",
    ]


def show_machine(machine: dict[str, Any]) -> str:
    """Name in one sentence what measured."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    commit = (machine["commit"] or "unknown")[:7] + "-dirty" * bool(machine["dirty"])
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB; Python {machine['python']}, {versions}; commit {commit}."
    )
