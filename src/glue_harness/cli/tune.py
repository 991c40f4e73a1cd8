"""Command `tune`: search learning rates and alpha, the same search for every method.

`python -m glue_harness.cli.tune model=minilm 'only.method=[lora,edora]' [experiment=tune]`
"""

from __future__ import annotations

import signal
import sys

from glue_harness.cli.common import command_line
from glue_harness.tuning.search import tune


def main() -> None:
    """Run from the command line; exit code 1 if a method of the search is left without a choice."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends the trials too
    with command_line():
        findings = tune(sys.argv[1:])
    if any(finding is None or finding.best is None for finding in findings):
        sys.exit(1)


if __name__ == "__main__":
    main()
