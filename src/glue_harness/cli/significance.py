"""Command `significance`: compare EDoRA with every other method, example by example."""

from __future__ import annotations

import argparse

from glue_harness.cli.common import command_line
from glue_harness.reports.significance import compare


def run(arguments: argparse.Namespace) -> None:
    """Run the command, printing the comparison."""
    with command_line(arguments.overrides):
        print(compare(arguments.overrides), end="")
