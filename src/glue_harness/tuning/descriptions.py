"""What a search found, as text: the files of conf/tuned and the table search.md. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from tabulate import tabulate

from glue_harness.analysis.rounding import show_percent
from glue_harness.config.schema import Protocol
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import name_commit, name_metric, name_row, name_task
from glue_harness.runs.record import Status
from glue_harness.tuning.findings import EDGE_VALUES, SEARCHED, TaskFinding

CURVE_VALUES = 12

CHOICES = {
    "best": "Chosen is the highest score, of equals the lowest rates.",
    "one_standard_error": "Chosen is the lowest learning rate whose score is within one standard error "
    "(that of measuring on so many held-out rows) of the highest.",
}


def describe_tuned(
    finding: TaskFinding, command: str, table: str, holdout: float, first_round: str | None = None
) -> str:
    """Return a file of conf/tuned: the chosen rates and alpha, and above them where they come from.

    `first_round`: the round from which the trials were taken, in words.

    Raises:
        ValueError: the finding has no best trial.
    """
    best = finding.best
    if best is None:
        raise ValueError(f"{finding.key}: there is no best trial")
    scores = [trial["score"] for trial in finding.scored]
    tried = [f"{name} {_span(finding, name)}" for name in SEARCHED if best[name] is not None]
    kept, held = show_share(1 - holdout), show_share(holdout)
    rank = "" if best["rank"] is None else f"rank {best['rank']}, "
    commits = sorted({name_commit(trial) for trial in finding.trials})
    numerics = sorted({trial["numerics"] for trial in finding.trials})
    lines = [
        f"# Found by `{command}`; all trials: {table}",
        f"# {_count(finding)}: {', '.join(tried)}; {rank}seed {best['seed']}, {best['epochs']} epochs",
        f"# Trained on {kept} of train, scored on the other {held}; no dev row was read",
        f"# {best['headline']} {best['score']:.4f}, the trials' median {statistics.median(scores):.4f}",
        *([f"# Taken from {first_round}"] if first_round else []),
        *_describe_choice(finding),
        *[f"# At the edge of what was tried: {rate}" for rate in finding.edges],
        f"# Code {', '.join(commits)}; numerics {', '.join(map(str, numerics))}",
        *write_values(best, finding.trials),
    ]
    return "".join(f"{line}\n" for line in lines)


def write_values(values: Mapping[str, float | None], trials: Sequence[Row]) -> list[str]:
    """Return the lines of a file of conf/tuned that hold its values.

    Alpha stands there if the trials searched it, with the rank that they had.
    """
    lines = [f"{name}: {values[name]!r}" for name in SEARCHED[:2]]
    if len({trial["alpha"] for trial in trials}) > 1:
        lines += [f"alpha: {values['alpha']:g}", f"rank: {trials[0]['rank']}"]
    return lines


def _describe_choice(finding: TaskFinding) -> list[str]:
    if finding.choice == "best" or finding.best is None:
        return []
    highest = max(trial["score"] for trial in finding.scored)
    error = finding.compute_standard_error(highest)
    return [f"# At the lowest learning rate of all within one standard error ({error:.4f}) of {highest:.4f}"]


def _count(finding: TaskFinding) -> str:
    return f"{len(finding.trials)} trials"


def _span(finding: TaskFinding, rate: str) -> str:
    tried = sorted({trial[rate] for trial in finding.trials})
    ends = (show_rate(value) for value in (tried[0], tried[-1]))
    return " to ".join(dict.fromkeys(ends))


def tabulate_findings(findings: list[TaskFinding], title: str, holdout: float, protocol: Protocol) -> str:
    """Return the search's table in Markdown: a line a method and task, and notes."""
    columns: dict[str, Callable[[TaskFinding], str]] = {
        "Task": lambda f: f"{name_task(f.key[2])} ({name_metric(f.trials[0]['headline'])})",
        "Method": _name,
        "Trials": _show_trials,
        "Learning rate": lambda f: _show_value(f, "learning_rate"),
        "Head learning rate": lambda f: _show_value(f, "head_learning_rate"),
        **({"Alpha": lambda f: _show_value(f, "alpha")} if _searches_alpha(findings) else {}),
        "Score": lambda f: _percent(f.best["score"] if f.best else None),
        "Median": lambda f: _percent(statistics.median(t["score"] for t in f.scored) if f.scored else None),
        "Best score at each rate": _show_curve,
    }
    tasks = list(dict.fromkeys(finding.key[2] for finding in findings))
    by_task = sorted(findings, key=lambda finding: tasks.index(finding.key[2]))
    rows = [[show(finding) for show in columns.values()] for finding in by_task]
    body = tabulate(rows, list(columns), tablefmt="pipe", disable_numparse=True)
    return f"**{title}**\n\n{body}\n\n" + "".join(
        f"- {note}\n" for note in _notes(findings, holdout, protocol)
    )


def _show_trials(finding: TaskFinding) -> str:
    done = len(finding.scored)
    failed = sum(trial["status"] == Status.FAILED for trial in finding.trials)
    shown = _count(finding) if finding.is_whole else f"{done} of {_count(finding)}"
    return shown + (f", {failed} failed" if failed else "")


def _show_value(finding: TaskFinding, rate: str) -> str:
    if finding.best is None or finding.best[rate] is None:
        return "--"
    return show_rate(finding.best[rate]) + (" **at the edge**" if rate in finding.edges else "")


def _searches_alpha(findings: Sequence[TaskFinding]) -> bool:
    return any(len(finding.list_values("alpha")) > 1 for finding in findings)


def show_rate(value: float) -> str:
    """Write a learning rate as people do: 0.003, 3e-5."""
    return f"{value:.3g}".replace("e-0", "e-")


def _percent(score: float | None) -> str:
    return "--" if score is None else show_percent(score, digits=2)


def _show_curve(finding: TaskFinding) -> str:
    """Show the best score at each value of the rate that has most values, where these are few."""
    rate = max(SEARCHED[:2], key=lambda name: len({trial[name] for trial in finding.trials}))
    by_value: dict[float, list[float]] = {}
    for trial in finding.scored:
        by_value.setdefault(trial[rate], []).append(trial["score"])
    if len(by_value) > CURVE_VALUES:
        return "in runs.csv"
    best = [(show_rate(value), _percent(max(scores))) for value, scores in sorted(by_value.items())]
    return " · ".join(f"{value}: {score}" for value, score in best)


def _notes(findings: list[TaskFinding], holdout: float, protocol: Protocol) -> list[str]:
    trials = [trial for finding in findings for trial in finding.trials]
    seeds, epochs = ({trial[name] for trial in trials} for name in ("seed", "epochs"))
    numbers = {len(finding.trials) for finding in findings}
    known = [trial for trial in trials if trial["status"] != evidence.MISSING]
    sources = {"commit": [name_commit(row) for row in known]}
    sources |= {name: [str(row[name]) for row in known] for name in ("precision", "hardware", "numerics")}
    return [
        f"Trained on {show_share(1 - holdout)} of train for {_join(epochs)} epochs, seed {_join(seeds)}; a "
        f"score is the {protocol.epoch} epoch's on the other {show_share(holdout)} of train, in percent. No "
        "dev row was read.",
        *(["Every method has as many trials planned on every task."] if len(numbers) == 1 else []),
        *dict.fromkeys(CHOICES[finding.choice] for finding in findings),
        *_warn(findings),
        "Provenance: "
        + "; ".join(f"{name} {', '.join(dict.fromkeys(found))}" for name, found in sources.items())
        + ".",
    ]


def _warn(findings: list[TaskFinding]) -> list[str]:
    edges = [f"{_name(finding)} on {name_task(finding.key[2])}" for finding in findings if finding.edges]
    warnings = []
    if edges:
        warnings.append(
            f"At the edge of what was tried, so that a better rate may lie outside: {', '.join(edges)}."
        )
    if any(len(f.list_values(rate)) == EDGE_VALUES - 1 for f in findings for rate in SEARCHED[:2]):
        warnings.append("Of a rate with two values either is an edge, which is not marked.")
    if any(finding.best is None for finding in findings):
        warnings.append(
            "Without a choice (--): trials are missing or have failed, or the best has learnt nothing (it "
            "diverged, or gives every row the same prediction)."
        )
    return warnings


def _name(finding: TaskFinding) -> str:
    return name_row(finding.trials[0] | {"settings": None})


def show_share(part: float) -> str:
    """Write a share as people do: 20 %."""
    return f"{100 * part:.3g} %"


def _join(values: set) -> str:
    return ", ".join(str(value) for value in sorted(values))
