"""Command `restore`: turn an experiment's committed evidence into finished run records."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from glue_harness.cli.common import command_line
from glue_harness.cli.main import EXIT_BAD_INPUT
from glue_harness.evidence.restore import restore
from glue_harness.sweeps import plan as sweep


def run(arguments: argparse.Namespace) -> None:
    """Run the command; a row that is refused is a line, and makes the exit code 2."""
    overrides = arguments.overrides
    with command_line(overrides):
        plan, whole = sweep.plan(overrides), sweep.plan(sweep.without_filters(overrides))
        results_folder = Path(plan.config.results_dir, plan.name)
        report = restore(plan, results_folder, Path(plan.config.runs_dir), whole)
    for line in report.refused:
        print(f"error: {line}", file=sys.stderr)
    print(f"restored {report.restored} records, {report.present} already there")
    if report.refused:
        sys.exit(EXIT_BAD_INPUT)
