"""ENTRY: the same search of learning rates for every method -> conf/tuned/ and results/tune/.

`python -m glue_harness.tune model=minilm 'only.method=[lora,edora]' [experiment=tune] [search=optuna]`

A trial is an ordinary run, scored on a part of train that is kept from it. Its record is what makes a search
resumable: trials that are done are not run again.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from glue_harness import evidence_files, sweep
from glue_harness.aggregate import write_together
from glue_harness.collection import collect
from glue_harness.config import Config
from glue_harness.entry import command_line
from glue_harness.errors import CONF, require
from glue_harness.fallback import Fallback, describe_fallback, find_fallbacks
from glue_harness.grid import Cell
from glue_harness.records import write_atomically
from glue_harness.scoring import score_runs
from glue_harness.search import RATES, Finding, describe_tuned, find, tabulate_findings
from glue_harness.sources import divide, load_split
from glue_harness.sweep import Plan

TABLE = "search.md"


def tune(overrides: list[str]) -> list[Finding]:
    """Run what is left of the search that `overrides` choose; write its evidence, table and choices.

    Filters (`only.…`) narrow what is run, chosen and returned; evidence and table hold the whole search.

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
    announce(wanted)
    if whole.config.search.name == "optuna":
        from glue_harness.optuna_search import run_trials

        trials, pruned = run_trials(whole, wanted)
    else:
        _run_grid(chosen)
        trials, pruned = whole, {}
    folder = Path(trials.config.results_dir, trials.name)
    collected = collect(trials, Path(trials.config.runs_dir), folder)
    findings = find(score_runs(collected, trials.config.protocol), trials.config.search.trials, pruned)
    table = tabulate_findings(findings, trials.title, _holdout(trials), trials.config.protocol)
    write_together(folder, evidence_files.encode(collected) | {TABLE: table.encode()})
    print(table, end="")
    asked = {(cell.identity.method, cell.identity.task) for cell in wanted.cells}
    methods = {method for method, _ in asked}
    fallbacks = [fallback for fallback in find_fallbacks(findings) if fallback.method in methods]
    findings = [finding for finding in findings if finding.key[1:] in asked]
    _write_choices(findings, fallbacks, trials, folder / TABLE)
    return findings


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
    """Say before anything runs what the search costs: its trials, and the rows that they train on.

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


def _write_choices(findings: list[Finding], fallbacks: list[Fallback], plan: Plan, table: Path) -> None:
    """Write a file of conf/tuned for every finding with a choice, and those for tasks that were not searched.

    Generated data choose nothing.
    """
    chosen = [finding for finding in findings if finding.best is not None]
    if plan.config.data.name == "miniature":
        print(f"data=miniature: its choices are not written to {CONF / 'tuned'}", file=sys.stderr)
        return
    command = f"make tune MODEL={plan.config.model.name}"
    command += f" SEARCH={plan.config.search.name}" * (plan.config.search.name != "grid")
    for finding in chosen:
        text = describe_tuned(finding, command, table.as_posix(), _holdout(plan))
        write_atomically(CONF / "tuned" / f"{'_'.join(finding.key)}.yaml", text.encode())
    for fallback in fallbacks:
        text = describe_fallback(fallback, command, table.as_posix(), _holdout(plan))
        name = f"{fallback.model}_{fallback.method}.yaml"
        write_atomically(CONF / "tuned" / "any" / name, text.encode())
    print(
        f"{len(chosen)} of {len(findings)} choices written to {CONF / 'tuned'}, and {len(fallbacks)} for "
        "tasks without a search of their own",
        file=sys.stderr,
    )


def main() -> None:
    """Run from the command line; exit code 1 if a method of the search is left without a choice."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends the trials too
    with command_line():
        findings = tune(sys.argv[1:])
    if any(finding.best is None for finding in findings):
        sys.exit(1)


if __name__ == "__main__":
    main()
