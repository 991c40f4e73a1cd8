"""Command `report`: write an experiment's evidence, tables and figures, and print its tables.

`python -m glue_harness.cli.report experiment=<name> [protocol=…] [only.…=[…]]`
"""

from __future__ import annotations

import sys

from glue_harness.cli.common import command_line
from glue_harness.hardware import no_garbage_collection
from glue_harness.reports.build import aggregate


def main() -> None:
    """Run from the command line, printing the tables; bad input is one line and exit code 2."""
    with command_line(), no_garbage_collection():
        print(aggregate(sys.argv[1:]), end="")


if __name__ == "__main__":
    main()
