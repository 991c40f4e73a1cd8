"""The order of a sweep's runs: those that start from another run come after it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from glue_harness.errors import InputError
from glue_harness.runs.index import Inventory
from glue_harness.runs.record import TRAINED_WEIGHTS, Status, find_source
from glue_harness.sweeps.grid import Cell


def order_stages(
    todo: Sequence[Cell], elsewhere: Inventory | None = None
) -> tuple[list[list[Cell]], list[str]]:
    """Return the cells to run first and those to run once these are through, and why others cannot run.

    What runs second starts from a run of the first. What cannot run would start from a run that is neither
    there nor among `todo`: a line each. A run starts from one of its own environment, which is this
    machine's; `elsewhere` is what there is where other machines run, whose environments are not known here.

    Raises:
        InputError: none of the cells can run.
    """
    planned = {cell.key for cell in todo}
    first: list[Cell] = []
    second: list[Cell] = []
    blocked = []
    for cell in todo:
        if cell.source is None or _is_there(cell, cell.source, elsewhere):
            first.append(cell)
        elif cell.source.key in planned:
            second.append(cell)
        else:
            blocked.append(f"init_from={cell.config.init_from}: {_explain_missing(cell.source)}")
    if blocked and not first:
        raise InputError(blocked[0])
    return [stage for stage in (first, second) if stage], blocked


def _is_there(cell: Cell, source: Cell, elsewhere: Inventory | None) -> bool:
    if elsewhere is None:
        return find_source(cell.identity, Path(cell.config.runs_dir)) is not None
    return any(
        found.status is Status.COMPLETE and (found.folder / TRAINED_WEIGHTS).is_file()
        for found in elsewhere.find(source.key)
    )


def _name_command(cell: Cell) -> str:
    """Return the command that makes a planned run."""
    name = "sweep" if any(override.startswith("experiment=") for override in cell.overrides) else "train"
    return f"edora-glue {name} {shlex.join(cell.overrides)}"


def _explain_missing(source: Cell) -> str:
    """Say why there is nothing to start from, and what makes it if anything does."""
    record, command = source.record(), _name_command(source)
    if record is None or record.status is Status.FAILED:
        return f"{source.folder} holds no complete run to start from; make it first: {command}"
    if record.status is Status.DIVERGED:
        return f"{source.folder} has diverged, so there is nothing to start from; allowed is another setting"
    return f"{source.folder} was restored without its weights; remove that folder, then make it: {command}"
