"""Command `status`: how far an experiment is; with --watch, until all its runs have ended. It only looks."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from glue_harness.cli.common import command_line
from glue_harness.hardware import runs_at_once
from glue_harness.runs.index import LEFT, State
from glue_harness.sweeps import plan as sweep
from glue_harness.sweeps.estimate import estimate
from glue_harness.sweeps.summary import describe_counts, describe_time, list_bad, list_running, tabulate_runs

WATCH_SECONDS = 5.0
CLEAR_SCREEN = "\x1b[H\x1b[2J"


def describe_status(plan: sweep.Plan) -> tuple[list[str], bool]:
    """Return the lines that show where a plan's runs stand, and whether all have come to an end."""
    inventory = plan.take_inventory()
    left = plan.select(inventory, LEFT)
    running = len(plan.select(inventory, [State.RUNNING]))
    where = Path(plan.config.runs_dir).resolve()
    lines = [f"{plan.name} in {where}: {len(plan.cells):,} runs, {describe_counts(plan, inventory)}", ""]
    lines += [*tabulate_runs(plan, inventory), ""]
    lines += [*list_running(plan, inventory), *list_bad(plan, inventory)]
    if left:
        at_once = running or runs_at_once(plan.config.launcher.runs_per_gpu)
        lines += [f"{len(left):,} left: {describe_time(estimate(left, inventory), at_once)}"]
    return lines, not left


def watch(plan: sweep.Plan) -> None:
    """Show where a plan's runs stand, again and again until all have come to an end."""
    ended = False
    while not ended:
        begin = time.perf_counter()
        lines, ended = describe_status(plan)
        # Nine tenths of the time it does not look, however many records there are.
        pause = max(WATCH_SECONDS, 9 * (time.perf_counter() - begin))
        print(CLEAR_SCREEN * sys.stdout.isatty() + "\n".join(lines), flush=True)
        if not ended:
            time.sleep(pause)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    with command_line(arguments.overrides):
        plan = sweep.plan(arguments.overrides)
        if arguments.watch:
            watch(plan)
        else:
            print("\n".join(describe_status(plan)[0]))
