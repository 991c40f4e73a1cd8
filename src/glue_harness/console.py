"""What a sweep tells its user: what it is about to do, how far it is, how it ended."""

from __future__ import annotations

import contextlib
import statistics
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from glue_harness.hardware import runs_at_once
from glue_harness.progress import open_bar
from glue_harness.records import RECORD_NAME, Status
from glue_harness.sweep import Cell, Plan

POLL_SECONDS = 1.0


def announce(plan: Plan, todo: Sequence[Cell]) -> None:
    """Say how many runs there are, how many are done, and how long the rest may take."""
    done = len(plan.cells) - len(todo)
    where = Path(plan.config.runs_dir).resolve()
    text = f"{plan.name} in {where}: {len(plan.cells)} runs, {done} done, {len(todo)} to do"
    print(f"{text}; nothing to run" if not todo else f"{text}; {_estimate(plan, todo)}", file=sys.stderr)


def _estimate(plan: Plan, todo: Sequence[Cell]) -> str:
    """Estimate the time left from the medians of like runs that are done, at this machine's pace."""
    measured: dict[tuple[str, str], list[float]] = {}
    for cell in plan.cells:
        record = cell.record()
        if record is not None and record.cost is not None:
            key = (cell.identity.model, cell.identity.task)
            measured.setdefault(key, []).append(record.cost.total_seconds)
    like = {key: statistics.median(seconds) for key, seconds in measured.items()}
    known = [like.get((cell.identity.model, cell.identity.task)) for cell in todo]
    if not any(known):
        return "no like run is done yet to estimate the time from"
    typical = statistics.mean(seconds for seconds in known if seconds)
    total = sum(seconds or typical for seconds in known) / min(runs_at_once(), len(todo))
    return f"about {format_duration(total)} at {runs_at_once()} at once"


def format_duration(seconds: float) -> str:
    """Write seconds as a person would: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def watch(todo: Sequence[Cell]) -> Iterator[None]:
    """Show one bar for the sweep while inside, whichever launcher runs it: it watches records appear."""
    stop = threading.Event()
    waiting = {cell.folder / RECORD_NAME: _changed(cell) for cell in todo}

    def poll(bar: tqdm) -> None:
        while not stop.wait(POLL_SECONDS):
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


def summarise(todo: Sequence[Cell], endings: Sequence[tuple[str, str]]) -> bool:
    """Say how the runs ended, a line for each that did not end well; return whether all did."""
    counts = Counter(state for state, _ in endings)
    print(", ".join(f"{count} {state}" for state, count in counts.most_common()), file=sys.stderr)
    well = (Status.COMPLETE, "skipped")
    bad = [(state, message) for state, message in endings if state not in well]
    for state, message in bad:
        print(f"{state}: {message}", file=sys.stderr)
    return not bad
