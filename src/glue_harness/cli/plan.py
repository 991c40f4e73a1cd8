"""Command `plan`: an experiment before it runs: its grid, what is done of it, what the rest takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from glue_harness.cli.common import command_line
from glue_harness.hardware import runs_at_once
from glue_harness.io import free_space
from glue_harness.runs.index import LEFT
from glue_harness.sweeps import plan as sweep
from glue_harness.sweeps.estimate import estimate
from glue_harness.sweeps.summary import describe_axes, describe_counts, describe_needs, tabulate_runs


def describe_plan(plan: sweep.Plan) -> list[str]:
    """Return the lines that show a plan."""
    inventory = plan.take_inventory()
    left = plan.select(inventory, LEFT)
    runs_dir, runs_per_gpu = Path(plan.config.runs_dir), plan.config.launcher.runs_per_gpu
    return [
        f"{plan.name}: {plan.title}",
        *describe_axes(plan),
        "",
        *tabulate_runs(plan, inventory),
        "",
        f"in {runs_dir.resolve()}: {describe_counts(plan, inventory)}",
        *describe_needs(estimate(left, inventory), runs_at_once(runs_per_gpu), free_space(runs_dir)),
    ]


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    with command_line(arguments.overrides):
        print("\n".join(describe_plan(sweep.plan(arguments.overrides))))
