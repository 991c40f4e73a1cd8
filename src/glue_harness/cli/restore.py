"""Command `restore`: turn an experiment's committed evidence into finished run records.

`python -m glue_harness.cli.restore experiment=<name>`
"""

from __future__ import annotations

import sys
from pathlib import Path

from glue_harness.cli.common import EXIT_BAD_INPUT, command_line
from glue_harness.evidence.restore import restore
from glue_harness.sweeps import plan as sweep


def main() -> None:
    """Run from the command line; bad input, or a row that is refused, is one line each and exit code 2."""
    with command_line():
        plan, whole = sweep.plan(sys.argv[1:]), sweep.plan(sweep.without_filters(sys.argv[1:]))
        results_folder = Path(plan.config.results_dir, plan.name)
        report = restore(plan, results_folder, Path(plan.config.runs_dir), whole)
    for line in report.refused:
        print(f"error: {line}", file=sys.stderr)
    print(f"restored {report.restored} records, {report.present} already there")
    if report.refused:
        sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()
