"""What a sweep tells its user: what it is about to do, how far it is, how it ended."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from glue_harness.config.schema import label_folder
from glue_harness.errors import InputError
from glue_harness.hardware import runs_at_once
from glue_harness.runs.index import ENDED, Inventory, list_records, read_key
from glue_harness.runs.outcome import Ending
from glue_harness.runs.progress import open_bar
from glue_harness.sweeps.estimate import estimate
from glue_harness.sweeps.grid import Cell
from glue_harness.sweeps.plan import Plan
from glue_harness.sweeps.summary import describe_time

POLLS_PER_SECOND = 1000.0
"""Records that are looked at in a second, at most: a look at a shared file system costs its server."""


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
    arrivals = Arrivals(todo)

    def poll(bar: tqdm) -> None:
        while not stop.wait(max(1.0, arrivals.looked_at / POLLS_PER_SECOND)):
            bar.update(arrivals.count_new())
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
            bar.update(arrivals.count_new())


class Arrivals:
    """Those of some planned runs that get a record, on whatever machine."""

    def __init__(self, todo: Sequence[Cell]) -> None:
        self._waiting = {cell.key for cell in todo}
        self._labels = sorted({label_folder(cell.config) for cell in todo})
        self._seen = dict(list_records(self._labels))

    @property
    def looked_at(self) -> int:
        """How many records a look asks the file system for."""
        return len(self._seen) + len(self._waiting)

    def count_new(self) -> int:
        """Return how many of the runs have got a record since the last look."""
        before = len(self._waiting)
        written = {
            folder: when for folder, when in list_records(self._labels) if self._seen.get(folder) != when
        }
        for folder in written:
            with contextlib.suppress(InputError):  # whoever plans next says what is wrong with it
                self._waiting -= {read_key(folder)}
        self._seen |= written
        return before - len(self._waiting)


def summarise(endings: Sequence[Ending]) -> bool:
    """Say how the runs ended, a line for each that did not end well; return whether all did."""
    counts = Counter(ending.state for ending in endings)
    print(", ".join(f"{count} {state}" for state, count in counts.most_common()), file=sys.stderr)
    bad = [ending for ending in endings if not ending.is_well]
    for ending in bad:
        print(f"{ending.state}: {ending.message}", file=sys.stderr)
    return not bad
