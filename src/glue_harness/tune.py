"""ENTRY: the same search of learning rates for every method -> conf/tuned/ and its evidence in results/.

`python -m glue_harness.tune model=minilm 'only.method=[lora,edora]' [experiment=tune] [search=optuna]`

A trial is an ordinary run, scored on a part of train that is kept from it. Its record is what makes a search
resumable: trials that are done are not run again. Where the experiment names a `final` one, the search has
two rounds: many short trials, and of each method the best again, as long as the runs that are reported.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from glue_harness import evidence_files, sweep
from glue_harness.aggregate import write_together
from glue_harness.collection import collect
from glue_harness.config import Config
from glue_harness.entry import command_line
from glue_harness.errors import CONF, require
from glue_harness.fallback import describe_fallback, find_fallbacks
from glue_harness.finals import Finalists, choose_finalists
from glue_harness.grid import Cell
from glue_harness.records import write_atomically
from glue_harness.scoring import score_runs
from glue_harness.search import RATES, Finding, describe_tuned, find, tabulate_findings
from glue_harness.sources import divide, load_split
from glue_harness.sweep import Plan

TABLE = "search.md"

Asked = Collection[tuple[str, str]]
"""The methods and tasks that the command line has left, all of them without a filter."""


@dataclass(frozen=True)
class Round:
    """A round of a search: its trials, what they found, the table that shows it."""

    plan: Plan
    findings: list[Finding]
    table: Path


def tune(overrides: list[str]) -> list[Finding | None]:
    """Run what is left of the search that `overrides` choose; write its evidence, tables and choices.

    Filters (`only.…`) narrow what is run, chosen and returned; evidence and tables hold the whole search.

    Returns:
        The finding of the last round for every method and task that is asked for, None where it has none.

    Raises:
        InputError: what is planned is not a search; nothing has been run.
        SystemExit: the trials could not be run, or were interrupted.
    """
    named = any(override.startswith("experiment=") for override in overrides)
    chosen = overrides if named else ["experiment=tune", *overrides]
    unfiltered = [override for override in chosen if not override.startswith("only.")]
    whole = sweep.plan(unfiltered)
    check_search(whole)
    wanted = whole if unfiltered == chosen else sweep.plan(chosen)
    asked = dict.fromkeys((cell.identity.method, cell.identity.task) for cell in wanted.cells)
    announce(wanted)
    if whole.config.search.name == "optuna":
        from glue_harness.optuna_search import run_trials

        last, first = _record(*run_trials(whole, wanted)), None
    else:
        _run_grid(chosen)
        last, first = _record(whole, {}), None
        if whole.config.experiment.final is not None:
            last, first = _run_final(last, unfiltered, asked), last
    _write_choices(last, first, asked)
    by_place = {finding.key[1:]: finding for finding in last.findings}
    return [by_place.get(place) for place in asked]


def _record(plan: Plan, pruned: dict[tuple[str, str], int]) -> Round:
    """Write the evidence and the table of the trials that there are, and print the table."""
    folder = Path(plan.config.results_dir, plan.name)
    collected = collect(plan, Path(plan.config.runs_dir), folder)
    findings = find(score_runs(collected, plan.config.protocol), plan.config.search.trials, pruned)
    table = tabulate_findings(findings, plan.title, _holdout(plan), plan.config.protocol)
    write_together(folder, evidence_files.encode(collected) | {TABLE: table.encode()})
    print(table, end="")
    return Round(plan, findings, folder / TABLE)


def _run_final(first: Round, overrides: Sequence[str], asked: Asked) -> Round:
    """Run the final round of what is asked for, and return the whole of it."""
    finalists = choose_finalists(first.findings)
    wanted = _name_final(first.plan, overrides, finalists, asked)
    if wanted is None:
        return Round(first.plan, [], first.table)
    announce(sweep.plan(wanted))
    _run_grid(wanted)
    everything = [finding.key[1:] for finding in first.findings]
    whole = _name_final(first.plan, overrides, finalists, everything)
    assert whole is not None
    return _record(sweep.plan(whole), {})


def _name_final(plan: Plan, overrides: Sequence[str], finalists: Finalists, asked: Asked) -> list[str] | None:
    """Return the overrides that plan the finalists of what is asked for, None where there are none.

    The grid has a block a trial, each with the axes of that trial in the first round.
    """
    blocks, fixed = [], [o for o in overrides if o in plan.cells[0].overrides]
    for cell in plan.cells:
        identity = cell.identity
        if (identity.method, identity.task) not in asked:
            continue
        if _rates(cell) in finalists.get((identity.model, identity.method), []):
            axes = (override.partition("=") for override in cell.overrides if override not in fixed)
            blocks.append("{" + ",".join(f"{axis}:[{value}]" for axis, _, value in axes) + "}")
    kept = [o for o in fixed if o.partition("=")[0] not in ("experiment", "experiment.grid")]
    final = [f"experiment={plan.config.experiment.final}", f"experiment.grid=[{','.join(blocks)}]"]
    return [*final, *kept] if blocks else None


def check_search(plan: Plan) -> None:
    """Check that a plan is a fair search of learning rates.

    Raises:
        InputError: a run would be scored on dev; a method has two runs for a pair of rates (a second rank or
            seed), another number of trials than the others, or other epochs; the protocol halves dev.
    """
    search, groups = plan.config.search, dict[tuple[str, str], list[Cell]]()
    allowed = "null: a grid is run whole"
    require(search.name != "grid" or search.trials is None, "search.trials", search.trials, allowed)
    allowed = "one with dev=whole: a search chooses on held-out rows of train, and reports none"
    require(plan.config.protocol.dev == "whole", "protocol", plan.config.protocol.name, allowed)
    for cell in plan.cells:
        allowed = "a share of train, since no dev row may choose a setting"
        require(cell.config.data.holdout is not None, "data.holdout", "null", allowed)
        groups.setdefault((cell.identity.method, cell.identity.task), []).append(cell)
    size, epochs = len(next(iter(groups.values()))), plan.cells[0].config.trainer.epochs
    for (method, task), cells in groups.items():
        place = f"experiment={plan.config.experiment.name}: {method} on {task}: "
        pairs = {_rates(cell) for cell in cells}
        require(len(pairs) == len(cells), f"{place}runs", len(cells), f"{len(pairs)}, one a pair of {RATES}")
        require(len(cells) == size, f"{place}trials", len(cells), f"{size}, as for every method and task")
        for other in {cell.config.trainer.epochs for cell in cells} - {epochs}:
            require(False, f"{place}trainer.epochs", other, f"{epochs}, as for every method and task")


def _rates(cell: Cell) -> tuple[float, ...]:
    return tuple(getattr(cell.config.trainer, rate) for rate in RATES)


def announce(plan: Plan) -> None:
    """Say before anything runs what a round costs: its trials, and the rows that they train on.

    Raises:
        InputError: the data cannot be had.
    """
    methods = list(dict.fromkeys(cell.identity.method for cell in plan.cells))
    tasks = {cell.identity.task: cell.config for cell in plan.cells}
    trials = plan.config.search.trials or len(plan.cells) // (len(methods) * len(tasks))
    rows = sum(_count_rows(config) for config in tasks.values()) * trials * len(methods)
    epochs = plan.cells[0].config.trainer.epochs
    print(
        f"{plan.name}: {trials} trials of {epochs} epochs for each of {', '.join(methods)} on "
        f"{', '.join(tasks)}: {trials * len(methods) * len(tasks)} runs, {rows * epochs:,} rows to train on",
        file=sys.stderr,
    )


def _count_rows(config: Config) -> int:
    splits = {"train": load_split(config.data, config.task, "train")}
    train, _, _ = divide(splits, config.task, config.data.holdout)
    return len(train)


def _run_grid(overrides: Sequence[str]) -> None:
    """Run the trials as any sweep; one that fails or diverges is its record's to tell."""
    code = subprocess.run([sys.executable, "-m", "glue_harness.train", *overrides], check=False).returncode
    if code not in (0, 1):
        sys.exit(code)


def _holdout(plan: Plan) -> float:
    assert plan.config.data.holdout is not None
    return plan.config.data.holdout


def _write_choices(last: Round, first: Round | None, asked: Asked) -> None:
    """Write a file of conf/tuned for every finding with a choice, and those for tasks that were not searched.

    Generated data choose nothing.
    """
    plan = last.plan
    if plan.config.data.name == "miniature":
        print(f"data=miniature: its choices are not written to {CONF / 'tuned'}", file=sys.stderr)
        return
    command = f"make tune MODEL={plan.config.model.name}"
    command += f" SEARCH={plan.config.search.name}" * (plan.config.search.name != "grid")
    table, holdout = last.table.as_posix(), _holdout(plan)
    chosen = [finding for finding in last.findings if finding.best is not None and finding.key[1:] in asked]
    for finding in chosen:
        text = describe_tuned(finding, command, table, holdout, _describe_first(first, finding))
        write_atomically(CONF / "tuned" / f"{'_'.join(finding.key)}.yaml", text.encode())
    methods = {method for method, _ in asked}
    fallbacks = [fallback for fallback in find_fallbacks(last.findings) if fallback.method in methods]
    for fallback in fallbacks:
        text = describe_fallback(fallback, command, table, holdout)
        name = f"{fallback.model}_{fallback.method}.yaml"
        write_atomically(CONF / "tuned" / "any" / name, text.encode())
    print(
        f"{len(chosen)} of {len(asked)} choices written to {CONF / 'tuned'}, and {len(fallbacks)} for "
        "tasks without a search of their own",
        file=sys.stderr,
    )


def _describe_first(first: Round | None, finding: Finding) -> str | None:
    """Say what the final round's trials of a method and task were taken from."""
    if first is None:
        return None
    (own,) = (found for found in first.findings if found.key == finding.key)
    return f"{len(own.trials)} trials of {own.trials[0]['epochs']} epochs: {first.table.as_posix()}"


def main() -> None:
    """Run from the command line; exit code 1 if a method of the search is left without a choice."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends the trials too
    with command_line():
        findings = tune(sys.argv[1:])
    if any(finding is None or finding.best is None for finding in findings):
        sys.exit(1)


if __name__ == "__main__":
    main()
