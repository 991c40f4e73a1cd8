"""Command `tune`: search learning rates and alpha, the same search for every method."""

from __future__ import annotations

import argparse
import signal
import sys

from glue_harness.cli.common import command_line
from glue_harness.tuning.search import tune


def run(arguments: argparse.Namespace) -> None:
    """Run the command; exit code 1 if a method of the search is left without a choice."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends the trials too
    with command_line(arguments.overrides):
        findings = tune(arguments.overrides)
    if any(finding is None or finding.best is None for finding in findings):
        sys.exit(1)
