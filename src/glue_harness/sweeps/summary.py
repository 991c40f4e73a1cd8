"""What a plan and what there is of it look like, as lines of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from glue_harness.config.schema import name_run
from glue_harness.runs.index import ENDED, Inventory, State
from glue_harness.runs.outcome import last_line
from glue_harness.runs.progress import Progress
from glue_harness.sweeps.estimate import Estimate
from glue_harness.sweeps.plan import Plan

UNITS = ("bytes", "kB", "MB", "GB", "TB")


def describe_axes(plan: Plan) -> Iterator[str]:
    """Yield a line for each axis with its values, and one with how many runs they make."""
    configs = [cell.config for cell in plan.cells]
    axes = {
        "model": (config.model.name for config in configs),
        "task": (config.task.name for config in configs),
        "method": (config.method.name for config in configs),
        "rank": (config.rank for config in configs if (config.method.adapter or {}).get("r") is not None),
        "seed": (config.seed for config in configs),
    }
    for axis, values in axes.items():
        yield f"{axis:<7} {' '.join(str(value) for value in dict.fromkeys(values))}".rstrip()
    settings = len({cell.cell_hash for cell in plan.cells})
    yield f"{settings:,} settings, {len(plan.cells):,} runs"


def describe_counts(plan: Plan, inventory: Inventory) -> str:
    """Say how many runs stand where."""
    counts = Counter(inventory.state(cell.key) for cell in plan.cells)
    return ", ".join(f"{counts[state]:,} {state}" for state in State if counts[state])


def tabulate_runs(plan: Plan, inventory: Inventory) -> list[str]:
    """Lay out how many runs have come to an end of how many planned: a row for each model and label."""
    planned: Counter[tuple[str, str, str]] = Counter()
    ended: Counter[tuple[str, str, str]] = Counter()
    for cell in plan.cells:
        place = (cell.config.model.name, cell.config.method.label, cell.config.task.name)
        planned[place] += 1
        ended[place] += inventory.state(cell.key) in ENDED
    tasks = list(dict.fromkeys(task for *_, task in planned))
    rows = list(dict.fromkeys((model, label) for model, label, _ in planned))
    table = [["model", "method", *tasks]]
    for row in rows:
        places = [(*row, task) for task in tasks]
        table.append([*row, *(f"{ended[p]}/{planned[p]}" if planned[p] else "" for p in places)])
    return align(table)


def align(table: Sequence[Sequence[str]]) -> list[str]:
    """Lay out rows of cells in columns: the first two to the left, the others to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for row in table:
        padded = [
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def list_running(plan: Plan, inventory: Inventory) -> list[str]:
    """Return a line for each run in progress: how far it is, what is left, where it runs."""
    cells = plan.select(inventory, [State.RUNNING])
    return [
        f"{name_run(cell.config)}: {_describe_progress(inventory.running[cell.key].progress)}"
        for cell in cells
    ]


def _describe_progress(progress: Progress) -> str:
    share = progress.step / progress.steps if progress.steps else 0.0
    left = "" if progress.seconds_left is None else f", about {format_duration(progress.seconds_left)} left"
    where = f"{progress.host} process {progress.pid}"
    return f"step {progress.step} of {progress.steps} ({share:.0%}){left}, {where}"


def list_bad(plan: Plan, inventory: Inventory) -> list[str]:
    """Return a line for each run that failed or diverged: why, after how many attempts, and where it is."""
    lines = []
    for cell in plan.cells:
        state = inventory.state(cell.key)
        if state not in (State.FAILED, State.DIVERGED):
            continue
        found = next(f for f in inventory.find(cell.key) if f.status == state)
        reason = last_line(found.error) or "no reason recorded"
        lines.append(
            f"{state}: {name_run(cell.config)}: {reason} (attempts: {found.attempts}; {found.folder})"
        )
    return lines


def describe_time(estimate: Estimate, at_once: int) -> str:
    """Say how long the runs that are left take at so many at once."""
    if estimate.unlike == estimate.runs:
        return "no similar run has finished, so that there is no estimate of time"
    at_once = min(at_once, estimate.runs)
    text = f"about {format_duration(estimate.seconds / at_once)} at {at_once} at once"
    return text + (f", {estimate.unlike:,} runs that resemble none left out" if estimate.unlike else "")


def describe_needs(estimate: Estimate, at_once: int, free: int) -> list[str]:
    """Say what the runs that are left take in time and on disk, and what that rests on."""
    if not estimate.runs:
        return ["nothing is left to run"]
    known = estimate.examples is not None
    work = f", {estimate.examples:,} rows to train on in {estimate.steps:,} steps" if known else ""
    lines = [f"{estimate.runs:,} runs left{work}: {describe_time(estimate, at_once)}"]
    if estimate.unlike < estimate.runs:
        lines[0] += f" ({format_duration(estimate.seconds)} one after the other)"
        lines.append(f"disk: about {format_size(estimate.size)} more, {format_size(free)} free")
        hardware = ", ".join(f"{count:,} on {name}" for name, count in estimate.measured.most_common())
        lines.append(f"measured on runs of the same models: {hardware}")
    return lines


def format_duration(seconds: float) -> str:
    """Write seconds as a person would: 45 s, 12 min, 3.5 h, 12 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.0f} days"


def format_size(size: float) -> str:
    """Write bytes as a person would: 512 bytes, 3.4 GB."""
    power = 0
    while size >= 1000 and power < len(UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.0f} {UNITS[power]}" if power == 0 else f"{size:.1f} {UNITS[power]}"
