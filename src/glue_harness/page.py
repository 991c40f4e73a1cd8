"""Tables, figures, claims and runs of an experiment -> one page that needs no network. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from glue_harness import evidence
from glue_harness.captions import anchor, name_commit, name_row, name_task
from glue_harness.evidence import Row
from glue_harness.markup import UNKNOWN, Table
from glue_harness.percent import show_percent
from glue_harness.selection import ROW_KEY, Selection, split_rows

COLUMNS = ("seed", "status", "epoch", "score", "training", "commit", "numerics", "configuration", "started")


def build_page(
    title: str, tables: Sequence[Table], figures: Mapping[str, bytes], claims: str, selection: Selection
) -> str:
    """Return the page, the same bytes for the same input.

    `figures`: PNG by name. `claims`: Markdown. A cell of a table of scores leads to the runs behind it.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("glue_harness"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html").render(
        title=title,
        protocol=selection.protocol,
        tables=tables,
        figures={name: base64.b64encode(content).decode() for name, content in figures.items()},
        claims=Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(claims)),
        cells=_list_cells(selection),
        columns=COLUMNS,
    )


def _list_cells(selection: Selection) -> list[dict[str, Any]]:
    """Return the runs of each cell of the tables: those of every setting that was tried."""
    return [
        {
            "anchor": anchor(runs[0]),
            "name": f"{runs[0]['model']}, {name_task(runs[0]['task'])}: {name_row(runs[0])}",
            "runs": [_show_run(run) for run in runs],
        }
        for runs in split_rows(evidence.list_rows(selection.scored), [*ROW_KEY, "task"])
    ]


def _show_run(run: Row) -> list[str]:
    epochs = run["selected_epochs"]
    known = {
        "seed": run["seed"],
        "status": run["status"] + ", degenerate" * bool(run["degenerate"]),
        "epoch": None if epochs is None else ", ".join(map(str, epochs)),
        "score": None if run["score"] is None else show_percent(run["score"], digits=2),
        "training": None if run["train_seconds"] is None else f"{run['train_seconds']:.0f} s",
        "commit": None if run["commit"] is None else name_commit(run),
        "numerics": run["numerics"],
        "configuration": run["config_hash"],
        "started": run["started_at"],
    }
    return [UNKNOWN if known[name] is None else str(known[name]) for name in COLUMNS]
