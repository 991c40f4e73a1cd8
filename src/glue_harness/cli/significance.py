"""Command `significance`: compare EDoRA with every other method, example by example.

`python -m glue_harness.cli.significance experiment=<name>`
"""

from __future__ import annotations

import sys

from glue_harness.cli.common import command_line
from glue_harness.reports.significance import compare


def main() -> None:
    """Run from the command line; bad input is one line and exit code 2."""
    with command_line():
        print(compare(sys.argv[1:]), end="")


if __name__ == "__main__":
    main()
