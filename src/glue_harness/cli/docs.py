"""Command `docs`: put committed tables into README.md and docs/."""

from __future__ import annotations

import argparse
from pathlib import Path

from glue_harness.cli.common import command_line
from glue_harness.errors import InputError
from glue_harness.io import write_atomically
from glue_harness.reports.sections import fill_tables, find_documents


def run(arguments: argparse.Namespace) -> None:
    """Run the command; a line says which documents have changed. Either all are written or none."""
    with command_line():
        changed = {}
        for path in map(Path, arguments.documents or find_documents()):
            if not path.is_file():
                raise InputError(f"documents={path}: there is no such file; allowed is a Markdown file")
            text = path.read_text()
            filled = fill_tables(text, Path(arguments.results), str(path))
            if filled != text:
                changed[path] = filled
        for path, filled in changed.items():
            write_atomically(path, filled.encode())
            print(f"{path}: tables brought up to date")
