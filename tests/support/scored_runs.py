"""Hand-built scored runs, for the tests of everything between a selection and what is published of it."""

from __future__ import annotations

from glue_harness.analysis.scoring import SCORE_COLUMNS
from glue_harness.analysis.summary import assemble
from glue_harness.config.schema import Protocol
from glue_harness.evidence import schema as evidence

PROTOCOL = Protocol("best_epoch", "best", "median", "best epoch, 50% & more")
RUN = {
    "model": "tiny",
    "trainer": "fast",
    "precision": "fp32",
    "hardware": "Xeon @ 2.1GHz",
    "commit": "0123456789",
    "dirty": False,
    "averaged": True,
    "learning_rate": 2e-3,
    "alpha": 16.0,
    "head_learning_rate": 3e-3,
    "epochs": 5,
    "numerics": 1,
}


def make_runs(task, method, scores, rank=16, head=592_130, statuses=None, degenerate=(), **changes):
    """Return scored rows, one a seed; a score of None is a missing run unless `statuses` says otherwise."""
    statuses = statuses or ["missing" if score is None else "complete" for score in scores]
    own = {
        "task": task,
        "headline": "matthews_correlation" if task == "cola" else "accuracy",
        "method": method,
        "label": method if rank is None else f"{method}_r{rank}",
        "rank": rank,
        "adapter_parameters": {"full": 124_055_040, "lora": 1_622_016, "head_only": 0}.get(method, 49_152),
        "head_parameters": head,
    }
    return [
        RUN
        | own
        | {"seed": seed, "score": score, "status": status, "degenerate": seed in degenerate}
        | changes
        for seed, (score, status) in enumerate(zip(scores, statuses, strict=True), start=1)
    ]


def make_selection(rows, protocol=PROTOCOL):
    """Return what `summary.select` makes of evidence with these scored rows, scored alike on every fold."""
    folds = 1 if protocol.dev == "whole" else 2
    scored = [dict.fromkeys(("selecting", "reported"), (row["score"],) * folds) | row for row in rows]
    columns = evidence.RUN_COLUMNS | SCORE_COLUMNS | {"searched": evidence.TEXT}
    return assemble(evidence.build_frame(scored, columns), protocol)
