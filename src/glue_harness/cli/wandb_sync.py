"""Command `wandb-sync`: make the W&B runs that finished runs lack, and send those that are offline."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from glue_harness.cli.common import command_line
from glue_harness.runs.progress import open_bar
from glue_harness.runs.record import Status
from glue_harness.runs.tracking import FOLDER, Request, explain, make_request, warn, write_run
from glue_harness.sweeps import plan as sweep
from glue_harness.sweeps.plan import Plan

AT_ONCE = 100
"""How many runs one call of `wandb sync` is given."""


def sync(overrides: list[str]) -> bool:
    """Make and send the W&B runs of a plan's finished runs; return whether all went well.

    Raises:
        InputError: the plan, or a record of its runs, cannot be used.
    """
    chosen = [] if any(o.startswith("tracking=") for o in overrides) else ["tracking=wandb"]
    requests = list_requests(sweep.plan([*overrides, *chosen]))
    made = make_missing(requests)
    unsent = [run for request in requests for run in find_unsent(Path(request.folder))]
    print(f"{len(requests)} finished runs, {len(unsent)} to send", file=sys.stderr)
    chunks = [unsent[start : start + AT_ONCE] for start in range(0, len(unsent), AT_ONCE)]
    sent = [_send(chunk) for chunk in chunks]
    return made and all(sent)


def list_requests(plan: Plan) -> list[Request]:
    """Return a request for every finished run of a plan, in whichever environment it was made, offline."""
    records = plan.take_inventory().records
    return [
        replace(make_request(cell.config, found.folder), mode="offline")
        for cell in plan.cells
        for found in records.get(cell.key, [])
        if found.status is not Status.FAILED
    ]


def make_missing(requests: Sequence[Request]) -> bool:
    """Make the W&B runs that are not there; a line for each that cannot be; return whether all could."""
    missing = [request for request in requests if not (Path(request.folder) / FOLDER).exists()]
    faults = 0
    with open_bar(total=len(missing), desc="W&B runs", unit="run") as bar:
        for request in missing:
            try:
                write_run(request)
            except Exception as error:  # whatever W&B raises: the next run may do
                bar.write(warn(request, explain(error)), file=sys.stderr)
                faults += 1
            bar.update(1)
    return not faults


def find_unsent(folder: Path) -> list[Path]:
    """Return the offline W&B runs in a run's folder that `wandb sync` has not marked as sent."""
    runs = sorted((folder / FOLDER).glob("offline-run-*"))
    return [run for run in runs if not list(run.glob("*.wandb.synced"))]


def _send(runs: Sequence[Path]) -> bool:
    command = [sys.executable, "-m", "wandb", "sync", *map(str, runs)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0


def run(arguments: argparse.Namespace) -> None:
    """Run the command; exit code 1 if a run could not be made or sent."""
    with command_line(arguments.overrides):
        well = sync(arguments.overrides)
    if not well:
        sys.exit(1)
