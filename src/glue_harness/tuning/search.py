"""The same search of rates and alpha for every method -> conf/tuned/ and its evidence in results/.

A trial is an ordinary run, scored on a part of train that is kept from it. Its record is what makes a search
resumable: trials that are done are not run again. Where the experiment names a `final` one, the search has
two rounds: many short trials, and of each method the best again, as long as the runs that are reported.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glue_harness.analysis.scoring import score_runs
from glue_harness.errors import CONF
from glue_harness.evidence import files as evidence_files
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.collect import collect
from glue_harness.evidence.schema import MISSING, Evidence
from glue_harness.io import write_atomically, write_together
from glue_harness.reports.notes import name_task
from glue_harness.sweeps import plan as sweep
from glue_harness.sweeps.plan import Plan
from glue_harness.tuning.descriptions import describe_tuned, tabulate_findings
from glue_harness.tuning.findings import TaskFinding, find, get_values
from glue_harness.tuning.promotion import (
    Finalists,
    choose_finalists,
    describe_fallback,
    extend_finalists,
    find_fallbacks,
    group_methods,
)
from glue_harness.tuning.rounds import (
    Asked,
    check_search,
    choose_places,
    describe_cost,
    describe_final,
    is_on_same_tasks,
    name_final,
    narrow,
    plan_final,
)

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
    if whole.config.experiment.final is None:
        _collect(whole)  # evidence of another search is refused before anything runs
        print(describe_cost(wanted), file=sys.stderr)
        _run_grid(chosen)
        rounds = [_record(whole)]
    else:
        rounds = _run_two_rounds(whole, wanted, chosen, asked)
        asked = dict.fromkeys((*asked, *choose_places(rounds[-1].plan, whole, asked)))
    deciding = {
        place: (round_, finding)
        for round_, finding in _list_deciding(rounds)
        if (place := finding.key[1:]) in asked
    }
    _write_choices(rounds, list(deciding.values()), asked, unfiltered)
    return [deciding[place][1] if place in deciding else None for place in asked]


def _list_deciding(rounds: Sequence[Round]) -> list[tuple[Round, TaskFinding]]:
    """Return the findings that choose, each with its round: of a task in both rounds the final one's."""
    final_tasks = {cell.task for round_ in rounds[1:] for cell in round_.plan.cells}
    return [
        (round_, finding)
        for round_ in rounds
        for finding in round_.findings
        if round_ is rounds[-1] or finding.key[2] not in final_tasks
    ]


def _run_two_rounds(whole: Plan, wanted: Plan, chosen: Sequence[str], asked: Asked) -> list[Round]:
    """Run what is left of both rounds; return the first and the final one."""
    overrides = name_final(whole, sweep.without_filters(chosen))
    final = plan_final(whole, overrides)
    for plan in (whole, final):
        _collect(plan)  # evidence of another search is refused before anything runs
    places = choose_places(final, whole, asked)
    print(describe_cost(wanted), describe_final(final, places), sep="\n", file=sys.stderr)
    _run_grid(chosen)
    first = _record(whole)
    return [first, _run_final(final, first, overrides, places)]


def _collect(plan: Plan) -> Evidence:
    return collect(plan, Path(plan.config.runs_dir), Path(plan.config.results_dir, plan.name))


def _find(plan: Plan, collected: Evidence) -> list[TaskFinding]:
    tasks = {cell.cell_hash: cell.task for cell in plan.cells}
    predictions = collected.predictions.items()
    held_out = {tasks[name.partition("/")[0]]: len(logits) for name, logits in predictions}
    return find(score_runs(collected, plan.config.protocol), plan.config.experiment.choice, held_out)


def _record(plan: Plan, first: Sequence[TaskFinding] = ()) -> Round:
    """Write the evidence and the table of the trials that there are, and print the table.

    `first`: what the round found that these trials were taken from.
    """
    folder = Path(plan.config.results_dir, plan.name)
    collected = _collect(plan)
    findings = [
        replace(finding, earlier=tuple(found.trials) if (found := _find_earlier(finding, first)) else ())
        for finding in _find(plan, collected)
    ]
    table = tabulate_findings(findings, plan.title, _holdout(plan), plan.config.protocol)
    write_together(folder, evidence_files.encode(collected) | {TABLE: table.encode()})
    print(table, end="")
    return Round(plan, findings, folder / TABLE)


def _run_final(plan: Plan, first: Round, overrides: Sequence[str], asked: Asked) -> Round:
    """Run the final round of what is asked for, and return the whole of it.

    `plan`: all trials that it may have. What has run of them stays in the round, whatever goes on now.
    """
    finalists = _list_started(plan)
    same_tasks = is_on_same_tasks(first.plan, plan)
    _add(finalists, choose_finalists(first.findings, on_other_tasks=not same_tasks))
    _explain_left_out(plan, first, finalists, asked)
    while (wanted := narrow(plan, overrides, finalists, asked)) is not None:
        print(describe_cost(sweep.plan(wanted)), file=sys.stderr)
        _run_grid(wanted)
        places = choose_places(plan, first.plan, [finding.key[1:] for finding in first.findings])
        everything = narrow(plan, overrides, finalists, places)
        assert everything is not None
        whole = sweep.plan(everything)
        found = _find(whole, _collect(whole))
        methods = {method for method, _ in asked}
        asked_for = [f for f in found if f.key[1] in methods]
        if not same_tasks or not _add(finalists, extend_finalists(asked_for, first.findings)):
            return _record(whole, first=first.findings)
    return Round(plan, [], first.table)


def _list_started(plan: Plan) -> Finalists:
    """Return the values of each method that a record or earlier evidence is there of."""
    started: Finalists = {}
    for row in evidence.list_rows(_collect(plan).runs):
        if row["status"] != MISSING:
            _add(started, {(row["model"], row["method"]): [get_values(row)]})
    return started


def _add(finalists: Finalists, added: Finalists) -> bool:
    """Add values to those of each method, and say whether one was new."""
    new = False
    for method, values in added.items():
        known = finalists.setdefault(method, [])
        fresh = [one for one in values if one not in known]
        known += fresh
        new = new or bool(fresh)
    return new


def _explain_left_out(plan: Plan, first: Round, finalists: Finalists, asked: Asked) -> None:
    """Say of which methods nothing goes on, and why."""
    for method, group in group_methods(first.findings).items():
        if method in finalists or method[1] not in {name for name, _ in asked}:
            continue
        waiting = [finding.key[2] for finding in group if not finding.is_whole]
        why = "no rates have learnt something on each task"
        if waiting:
            why = f"it waits for trials of the first round on {', '.join(waiting)}"
        print(f"{plan.name}: nothing of {method[1]} goes on: {why}", file=sys.stderr)


def _run_grid(overrides: Sequence[str]) -> None:
    """Run the trials as any sweep; one that fails or diverges is its record's to tell."""
    code = subprocess.run([sys.executable, "-m", "glue_harness", "sweep", *overrides], check=False).returncode
    if code not in (0, 1):
        sys.exit(code)


def _holdout(plan: Plan) -> float:
    assert plan.config.data.holdout is not None
    return plan.config.data.holdout


def _write_choices(
    rounds: Sequence[Round],
    deciding: Sequence[tuple[Round, TaskFinding]],
    asked: Asked,
    overrides: Sequence[str],
) -> None:
    """Write a file of conf/tuned for every finding with a choice, and those for tasks that were not searched.

    Generated data choose nothing.
    """
    plan = rounds[-1].plan
    if plan.config.data.name == "miniature":
        print(f"data=miniature: its choices are not written to {CONF / 'tuned'}", file=sys.stderr)
        return
    finding_it = [o for o in overrides if o.partition("=")[0] not in NOT_FOUND_BY]
    command, holdout = f"edora-glue tune {shlex.join(finding_it)}", _holdout(plan)
    chosen = [(round_, finding) for round_, finding in deciding if finding.best is not None]
    for round_, finding in chosen:
        first = None if round_ is rounds[0] else _describe_first(rounds[0], finding)
        text = describe_tuned(finding, command, round_.table.as_posix(), holdout, first)
        write_atomically(CONF / "tuned" / f"{'_'.join(finding.key)}.yaml", text.encode())
    methods = {method for method, _ in asked}
    fallbacks = [fallback for fallback in find_fallbacks(rounds[-1].findings) if fallback.method in methods]
    for fallback in fallbacks:
        text = describe_fallback(fallback, command, rounds[-1].table.as_posix(), holdout)
        name = f"{fallback.model}_{fallback.method}.yaml"
        write_atomically(CONF / "tuned" / "any" / name, text.encode())
    print(
        f"{len(chosen)} of {len(asked)} choices written to {CONF / 'tuned'}, and {len(fallbacks)} for "
        "tasks without a search of their own",
        file=sys.stderr,
    )


def _find_earlier(finding: TaskFinding, first: Sequence[TaskFinding]) -> TaskFinding | None:
    """Return what the first round found of a method on the same task, or else on another."""
    of_method = [found for found in first if found.key[:2] == finding.key[:2]]
    return next((found for found in of_method if found.key == finding.key), next(iter(of_method), None))


def _describe_first(first: Round, finding: TaskFinding) -> str:
    """Say what the final round's trials of a method and task were taken from."""
    own = _find_earlier(finding, first.findings)
    assert own is not None
    task = "" if own.key == finding.key else f" on {name_task(own.key[2])}"
    trials = f"{len(own.trials)} trials of {own.trials[0]['epochs']} epochs"
    return f"{trials}{task}: {first.table.as_posix()}"
