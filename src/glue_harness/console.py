"""What a sweep tells its user: what it is about to do, how far it is, how it ended."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from glue_harness.estimate import estimate
from glue_harness.grid import Cell
from glue_harness.hardware import runs_at_once
from glue_harness.inventory import ENDED, Inventory
from glue_harness.overview import describe_time
from glue_harness.progress import open_bar
from glue_harness.records import RECORD_NAME, Status
from glue_harness.sweep import Plan

POLLS_PER_SECOND = 1000.0
"""Records that are looked for in a second, at most: a look at a shared file system costs its server."""


def announce(plan: Plan, todo: Sequence[Cell], inventory: Inventory) -> None:
    """Say how many runs there are, how many are done, and how long the rest may take."""
    ended = len(plan.select(inventory, ENDED))
    where = Path(plan.config.runs_dir).resolve()
    text = f"{plan.name} in {where}: {len(plan.cells)} runs, {ended} done, {len(todo)} to do"
    at_once = runs_at_once(plan.config.launcher.runs_per_gpu)
    time_left = describe_time(estimate(todo, inventory), at_once) if todo else "nothing to run"
    print(f"{text}; {time_left}", file=sys.stderr)


@contextlib.contextmanager
def watch(todo: Sequence[Cell]) -> Iterator[None]:
    """Show one bar for the sweep while inside, whichever launcher runs it: it watches records appear."""
    stop = threading.Event()
    waiting = {cell.folder / RECORD_NAME: _changed(cell) for cell in todo}

    def poll(bar: tqdm) -> None:
        while not stop.wait(max(1.0, len(waiting) / POLLS_PER_SECOND)):
            for path, before in list(waiting.items()):
                if path.exists() and path.stat().st_mtime_ns != before:
                    del waiting[path]
                    bar.update(1)
            if sys.stderr.isatty():
                bar.refresh()  # the clock goes on while runs do

    with open_bar(total=len(todo), desc="runs", unit="run") as bar:
        thread = threading.Thread(target=poll, args=(bar,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            bar.update(sum(path.exists() for path in waiting))


def _changed(cell: Cell) -> int | None:
    path = cell.folder / RECORD_NAME
    return path.stat().st_mtime_ns if path.exists() else None


def summarise(endings: Sequence[tuple[str, str]]) -> bool:
    """Say how the runs ended, a line for each that did not end well; return whether all did."""
    counts = Counter(state for state, _ in endings)
    print(", ".join(f"{count} {state}" for state, count in counts.most_common()), file=sys.stderr)
    well = (Status.COMPLETE, "skipped")
    bad = [(state, message) for state, message in endings if state not in well]
    for state, message in bad:
        print(f"{state}: {message}", file=sys.stderr)
    return not bad
