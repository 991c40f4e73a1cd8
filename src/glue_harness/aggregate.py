"""ENTRY: run records -> results/<experiment>/: the evidence, and the tables that derive from it alone.

`python -m glue_harness.aggregate experiment=<name> [protocol=…] [only.…=[…]]`
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from glue_harness import evidence, sweep, tables
from glue_harness.collection import collect
from glue_harness.entry import command_line
from glue_harness.errors import InputError, choices
from glue_harness.evidence import Evidence
from glue_harness.records import write_atomically
from glue_harness.selection import average_tasks, score_runs, summarise
from glue_harness.sweep import Plan

TABLE = "table_main"


def aggregate(overrides: list[str]) -> str:
    """Write the evidence and the tables of the experiment that `overrides` choose; return its table to show.

    Filters (`only.…`) narrow the returned table; the files always hold the whole experiment, so that looking
    at a part loses nothing. A protocol chosen with `protocol=` has tables of its own beside the experiment's.

    Raises:
        InputError: no experiment, or records or earlier evidence that cannot be used; nothing is written.
    """
    plan = sweep.plan([override for override in overrides if not override.startswith("only.")])
    if plan.config.experiment.name is None or not plan.cells:
        allowed = ", ".join(choices("experiment"))
        raise InputError(f"experiment={plan.config.experiment.name or 'null'}: no grid; allowed is {allowed}")
    folder = Path(plan.config.results_dir, plan.name)
    collected = collect(plan, Path(plan.config.runs_dir), folder)
    chosen = any(override.startswith("protocol=") for override in overrides)
    table = f"{TABLE}_{plan.config.protocol.name}" if chosen else TABLE
    rendered = render(collected, plan, table)
    contents = {name: text.encode() for name, text in rendered.items()}
    write_together(folder, evidence.encode(collected) | contents)
    filtered = sweep.plan(overrides)
    if len(filtered.cells) < len(plan.cells):
        rendered = render(_restrict(collected, filtered), filtered, table)
    return rendered[f"{table}.md"]


def render(collected: Evidence, plan: Plan, name: str = TABLE) -> dict[str, str]:
    """Return the main table's files, `name` and ending to text; of `plan` protocol, title and name enter."""
    protocol = plan.config.protocol
    scored = score_runs(collected, protocol)
    summary = summarise(scored, protocol)
    averages = average_tasks(summary)
    table = tables.build_main_table(scored, summary, averages, protocol, plan.title)
    return {
        f"{name}.md": tables.to_markdown(table),
        f"{name}.tex": tables.to_latex(table, plan.name),
        f"{name}.csv": tables.to_csv(summary, averages, protocol),
    }


def _restrict(collected: Evidence, plan: Plan) -> Evidence:
    planned = {(cell.identity.cell_hash, cell.identity.seed) for cell in plan.cells}
    runs = collected.runs
    kept = [key in planned for key in zip(runs["cell"], runs["seed"], strict=True)]
    if not any(kept):
        raise InputError("only: no run of the grid is left; allowed is what the experiment's grid holds")
    return Evidence(runs[kept].reset_index(drop=True), collected.epochs, collected.predictions)


def write_together(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write several files of one folder: only once all are safe on disk do they replace the earlier ones.

    Raises:
        InputError: the folder cannot be written; the earlier files are then as they were.
    """
    staged = {name: folder / f".{name}.{uuid.uuid4().hex}.staged" for name in contents}
    try:
        for name, content in contents.items():
            if (folder / name).is_dir():
                raise InputError(f"{folder / name}: is a folder; allowed is a file")
            write_atomically(staged[name], content)
        for name, path in staged.items():
            os.replace(path, folder / name)
    finally:
        for path in staged.values():
            path.unlink(missing_ok=True)


def main() -> None:
    """Run from the command line, printing the table; bad input is one line and exit code 2."""
    with command_line():
        print(aggregate(sys.argv[1:]), end="")


if __name__ == "__main__":
    main()
