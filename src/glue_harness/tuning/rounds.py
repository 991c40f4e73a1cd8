"""A search's rounds as plans: whether they are a fair search, which trials a round has, what it costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from glue_harness.errors import choices, require, require_one_of
from glue_harness.runs.identity import get_alpha
from glue_harness.sweeps import plan as sweep
from glue_harness.sweeps.estimate import count_examples
from glue_harness.sweeps.grid import Cell
from glue_harness.sweeps.plan import Plan
from glue_harness.tuning.findings import SEARCHED, Values
from glue_harness.tuning.promotion import Finalists

Asked = Collection[tuple[str, str]]
"""The methods and tasks that the command line has left, all of them without a filter."""

NOT_CARRIED = ("experiment", "experiment.final", "trainer.epochs")
"""What the command line says of the first round alone."""


def check_search(plan: Plan) -> None:
    """Check that a plan is a fair search of learning rates and alpha.

    Raises:
        InputError: a run would be scored on dev; a method has two runs for the same values (a second rank or
            seed), another number of trials than the others, or other epochs; the protocol halves dev.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    allowed = "one with dev=whole: a search chooses on held-out rows of train, and reports none"
    require(plan.config.protocol.dev == "whole", "protocol", plan.config.protocol.name, allowed)
    for cell in plan.cells:
        allowed = "a share of train, since no dev row may choose a setting"
        require(cell.config.data.holdout is not None, "data.holdout", "null", allowed)
        groups.setdefault((cell.method, cell.task), []).append(cell)
    size, epochs = len(next(iter(groups.values()))), plan.cells[0].config.trainer.epochs
    for (method, task), cells in groups.items():
        place = f"experiment={plan.config.experiment.name}: {method} on {task}: "
        values = {get_planned_values(cell) for cell in cells}
        allowed = f"{len(values)}, one for each set of {', '.join(SEARCHED)}"
        require(len(values) == len(cells), f"{place}runs", len(cells), allowed)
        require(len(cells) == size, f"{place}trials", len(cells), f"{size}, as for every method and task")
        for other in {cell.config.trainer.epochs for cell in cells} - {epochs}:
            require(False, f"{place}trainer.epochs", other, f"{epochs}, as for every method and task")


def name_final(first: Plan, overrides: Sequence[str]) -> list[str]:
    """Return the overrides that plan the final round of a search, from those of the first.

    Raises:
        InputError: `experiment.final` names no experiment.
    """
    name = first.config.experiment.final
    assert name is not None
    require_one_of("experiment.final", name, tuple(choices("experiment")))
    return [f"experiment={name}", *(o for o in overrides if o.partition("=")[0] not in NOT_CARRIED)]


def plan_final(first: Plan, overrides: Sequence[str]) -> Plan:
    """Return the plan of all trials that the final round may have: those of `first`, for longer.

    Raises:
        InputError: it is not longer, is no fair search, or lacks trials of the first round.
    """
    final = sweep.plan(list(overrides))
    check_search(final)
    short, long = (plan.cells[0].config.trainer.epochs for plan in (first, final))
    place = f"experiment.final={first.config.experiment.final}"
    require(long > short, f"{place}: trainer.epochs", long, f"more than the {short} of the first round")
    by_task = is_on_same_tasks(first, final)
    trials = [{_get_trial(cell, by_task) for cell in plan.cells} for plan in (first, final)]
    missing = trials[0] - trials[1]
    allowed = "one with all of the first round's methods, rates and alpha" + ", and its tasks" * by_task
    require(not missing, f"{place}: trials that it lacks", len(missing), allowed)
    return final


def is_on_same_tasks(first: Plan, final: Plan) -> bool:
    """Say whether the final round of a search is on tasks of the first, and not on others."""
    return not {cell.task for cell in first.cells}.isdisjoint(cell.task for cell in final.cells)


def choose_places(plan: Plan, first: Plan, asked: Asked) -> Asked:
    """Return the methods and tasks of a final round that belong to what is asked for of the first.

    On other tasks those are all tasks of the methods that are asked for.
    """
    if is_on_same_tasks(first, plan):
        return asked
    methods = {method for method, _task in asked}
    return list(dict.fromkeys((cell.method, cell.task) for cell in plan.cells if cell.method in methods))


def get_planned_values(cell: Cell) -> Values:
    """Return a planned trial's value of each of SEARCHED."""
    planned = vars(cell.config.trainer) | {"alpha": get_alpha(cell.config)}
    return tuple(planned[name] for name in SEARCHED)


def _get_trial(cell: Cell, by_task: bool) -> tuple[str, str | None, Values]:
    return cell.method, cell.task if by_task else None, get_planned_values(cell)


def narrow(plan: Plan, overrides: Sequence[str], finalists: Finalists, asked: Asked) -> list[str] | None:
    """Return the overrides that plan the finalists of what is asked for, None where there are none.

    `overrides` are those of `plan`. The grid has a block a trial, each with the axes of that trial there.
    """
    blocks, fixed = [], [o for o in overrides if o in plan.cells[0].overrides]
    for cell in plan.cells:
        if (cell.method, cell.task) not in asked:
            continue
        if get_planned_values(cell) in finalists.get((cell.model, cell.method), []):
            axes = (override.partition("=") for override in cell.overrides if override not in fixed)
            blocks.append("{" + ",".join(f"{axis}:[{value}]" for axis, _, value in axes) + "}")
    kept = [o for o in fixed if not o.startswith("experiment.grid=")]
    return [*kept, f"experiment.grid=[{','.join(blocks)}]"] if blocks else None


def describe_final(plan: Plan, asked: Asked) -> str:
    """Say before the first round what the final one will cost at least: two trials of what is asked for."""
    cells = {(cell.method, cell.task): cell for cell in plan.cells}
    counted = [count_examples(cells[place].config) for place in asked]
    rows = "" if None in counted else f", at least {2 * sum(n or 0 for n in counted):,} rows to train on"
    return f"{plan.name}: then two trials or more of each, {plan.cells[0].config.trainer.epochs} epochs{rows}"


def describe_cost(plan: Plan) -> str:
    """Say what a round costs: its trials, and the rows that all of them train on."""
    methods = dict.fromkeys(cell.method for cell in plan.cells)
    tasks = dict.fromkeys(cell.task for cell in plan.cells)
    counted = [count_examples(cell.config) for cell in plan.cells]
    rows = "" if None in counted else f", {sum(n or 0 for n in counted):,} rows to train on"
    trials = f"{len(plan.cells)} trials of {plan.cells[0].config.trainer.epochs} epochs"
    return f"{plan.name}: {trials}, for {', '.join(methods)} on {', '.join(tasks)}{rows}"
