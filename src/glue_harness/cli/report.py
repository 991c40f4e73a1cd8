"""Command `report`: write an experiment's evidence, tables and figures, and print its tables."""

from __future__ import annotations

import argparse

from glue_harness.cli.common import command_line
from glue_harness.hardware import no_garbage_collection
from glue_harness.reports.build import aggregate


def run(arguments: argparse.Namespace) -> None:
    """Run the command, printing the tables."""
    with command_line(arguments.overrides), no_garbage_collection():
        print(aggregate(arguments.overrides), end="")
