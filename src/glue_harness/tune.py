"""ENTRY: the same search of learning rates for every method -> conf/tuned/ and its evidence in results/.

`python -m glue_harness.tune model=minilm 'only.method=[lora,edora]' [experiment=tune] [search=optuna]`

A trial is an ordinary run, scored on a part of train that is kept from it. Its record is what makes a search
resumable: trials that are done are not run again. Where the experiment names a `final` one, the search has
two rounds: many short trials, and of each method the best again, as long as the runs that are reported.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glue_harness import evidence, evidence_files, sweep
from glue_harness.collection import collect
from glue_harness.entry import command_line
from glue_harness.errors import CONF, require
from glue_harness.evidence import MISSING, Evidence
from glue_harness.fallback import describe_fallback, find_fallbacks
from glue_harness.files import write_atomically, write_together
from glue_harness.finals import Finalists, choose_finalists, extend_finalists, group_methods
from glue_harness.rounds import (
    Asked,
    check_search,
    describe_cost,
    describe_final,
    name_final,
    narrow,
    plan_final,
)
from glue_harness.scoring import score_runs
from glue_harness.search import RATES, TaskFinding, describe_tuned, find, tabulate_findings
from glue_harness.sweep import Plan

TABLE = "search.md"
NOT_FOUND_BY = ("runs_dir", "results_dir", "data.root", "launcher", "launcher.runs_per_gpu")
"""Overrides that have no say in what a search finds."""


@dataclass(frozen=True)
class Round:
    """A round of a search: its trials, what they found, the table that shows it."""

    plan: Plan
    findings: list[TaskFinding]
    table: Path


def tune(overrides: list[str]) -> list[TaskFinding | None]:
    """Run what is left of the search that `overrides` choose; write its evidence, tables and choices.

    Filters (`only.…`) narrow what is run, chosen and returned; evidence and tables hold the whole search.

    Returns:
        The finding of the last round for every method and task that is asked for, None where it has none.

    Raises:
        InputError: what is planned is not a search, or there is earlier evidence of another; nothing has been
            run.
        SystemExit: the trials could not be run, or were interrupted.
    """
    named = any(override.startswith("experiment=") for override in overrides)
    chosen = overrides if named else ["experiment=tune", *overrides]
    unfiltered = sweep.without_filters(chosen)
    whole = sweep.plan(unfiltered)
    check_search(whole)
    wanted = whole if unfiltered == chosen else sweep.plan(chosen)
    asked = dict.fromkeys((cell.method, cell.task) for cell in wanted.cells)
    if whole.config.search.name == "optuna":
        last, first = _run_optuna(whole, wanted, unfiltered), None
    elif whole.config.experiment.final is None:
        _collect(whole)  # evidence of another search is refused before anything runs
        print(describe_cost(wanted), file=sys.stderr)
        _run_grid(chosen)
        last, first = _record(whole), None
    else:
        last, first = _run_two_rounds(whole, wanted, chosen, asked)
    _write_choices(last, first, asked, unfiltered)
    by_place = {finding.key[1:]: finding for finding in last.findings}
    return [by_place.get(place) for place in asked]


def _run_two_rounds(whole: Plan, wanted: Plan, chosen: Sequence[str], asked: Asked) -> tuple[Round, Round]:
    """Run what is left of both rounds; return the final one and the first."""
    overrides = name_final(whole, sweep.without_filters(chosen))
    final = plan_final(whole, overrides)
    for plan in (whole, final):
        _collect(plan)  # evidence of another search is refused before anything runs
    print(describe_cost(wanted), describe_final(final, asked), sep="\n", file=sys.stderr)
    _run_grid(chosen)
    first = _record(whole)
    return _run_final(final, first, overrides, asked), first


def _run_optuna(whole: Plan, wanted: Plan, overrides: Sequence[str]) -> Round:
    from glue_harness.optuna_search import require_optuna, run_trials

    require_optuna()
    for launcher in (o.partition("=")[2] for o in overrides if o.startswith("launcher=")):
        allowed = "joblib with search=optuna, which starts its trials itself, on this machine"
        require(launcher == "joblib", "launcher", launcher, allowed)
    print(describe_cost(wanted), file=sys.stderr)
    plan, pruned = run_trials(whole, wanted, _collect)  # which refuses evidence of another search
    return _record(plan, pruned)


def _collect(plan: Plan) -> Evidence:
    return collect(plan, Path(plan.config.runs_dir), Path(plan.config.results_dir, plan.name))


def _find(plan: Plan, collected: Evidence, pruned: dict[tuple[str, str], int]) -> list[TaskFinding]:
    return find(score_runs(collected, plan.config.protocol), plan.config.search.trials, pruned)


def _record(
    plan: Plan, pruned: dict[tuple[str, str], int] | None = None, first: Sequence[TaskFinding] = ()
) -> Round:
    """Write the evidence and the table of the trials that there are, and print the table.

    `first`: what the round found that these trials were taken from.
    """
    folder = Path(plan.config.results_dir, plan.name)
    collected = _collect(plan)
    earlier = {finding.key: tuple(finding.trials) for finding in first}
    findings = [replace(f, earlier=earlier.get(f.key, ())) for f in _find(plan, collected, pruned or {})]
    table = tabulate_findings(findings, plan.title, _holdout(plan), plan.config.protocol)
    write_together(folder, evidence_files.encode(collected) | {TABLE: table.encode()})
    print(table, end="")
    return Round(plan, findings, folder / TABLE)


def _run_final(plan: Plan, first: Round, overrides: Sequence[str], asked: Asked) -> Round:
    """Run the final round of what is asked for, and return the whole of it.

    `plan`: all trials that it may have. What has run of them stays in the round, whatever goes on now.
    """
    finalists = _list_started(plan)
    _add(finalists, choose_finalists(first.findings))
    _explain_left_out(plan, first, finalists, asked)
    while (wanted := narrow(plan, overrides, finalists, asked)) is not None:
        print(describe_cost(sweep.plan(wanted)), file=sys.stderr)
        _run_grid(wanted)
        everything = narrow(plan, overrides, finalists, [finding.key[1:] for finding in first.findings])
        assert everything is not None
        whole = sweep.plan(everything)
        found = _find(whole, _collect(whole), {})
        methods = {method for method, _ in asked}
        added = extend_finalists([f for f in found if f.key[1] in methods], first.findings)
        if not _add(finalists, added):
            return _record(whole, first=first.findings)
    return Round(plan, [], first.table)


def _list_started(plan: Plan) -> Finalists:
    """Return the pairs of rates of each method that a record or earlier evidence is there of."""
    started: Finalists = {}
    for row in evidence.list_rows(_collect(plan).runs):
        if row["status"] != MISSING:
            _add(started, {(row["model"], row["method"]): [tuple(row[rate] for rate in RATES)]})
    return started


def _add(finalists: Finalists, added: Finalists) -> bool:
    """Add pairs to those of each method, and say whether one was new."""
    new = False
    for method, pairs in added.items():
        known = finalists.setdefault(method, [])
        fresh = [pair for pair in pairs if pair not in known]
        known += fresh
        new = new or bool(fresh)
    return new


def _explain_left_out(plan: Plan, first: Round, finalists: Finalists, asked: Asked) -> None:
    """Say of which methods nothing goes on, and why."""
    for method, group in group_methods(first.findings).items():
        if method in finalists or method[1] not in {name for name, _ in asked}:
            continue
        waiting = [finding.key[2] for finding in group if not finding.is_whole]
        why = "no pair of rates has learnt something on each task"
        if waiting:
            why = f"it waits for trials of the first round on {', '.join(waiting)}"
        print(f"{plan.name}: nothing of {method[1]} goes on: {why}", file=sys.stderr)


def _run_grid(overrides: Sequence[str]) -> None:
    """Run the trials as any sweep; one that fails or diverges is its record's to tell."""
    code = subprocess.run([sys.executable, "-m", "glue_harness.train", *overrides], check=False).returncode
    if code not in (0, 1):
        sys.exit(code)


def _holdout(plan: Plan) -> float:
    assert plan.config.data.holdout is not None
    return plan.config.data.holdout


def _write_choices(last: Round, first: Round | None, asked: Asked, overrides: Sequence[str]) -> None:
    """Write a file of conf/tuned for every finding with a choice, and those for tasks that were not searched.

    Generated data choose nothing.
    """
    plan = last.plan
    if plan.config.data.name == "miniature":
        print(f"data=miniature: its choices are not written to {CONF / 'tuned'}", file=sys.stderr)
        return
    finding_it = [o for o in overrides if o.partition("=")[0] not in NOT_FOUND_BY]
    command = f"python -m glue_harness.tune {shlex.join(finding_it)}"
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


def _describe_first(first: Round | None, finding: TaskFinding) -> str | None:
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
