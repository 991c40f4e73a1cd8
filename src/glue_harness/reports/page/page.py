"""Tables, figures, claims and runs of an experiment -> one page that needs no network. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import jinja2

from glue_harness.analysis.summary import Selection
from glue_harness.reports.figures.notes import describe_figure
from glue_harness.reports.page.claims import render_claims
from glue_harness.reports.page.run_sections import list_pairs, list_runs
from glue_harness.reports.table import Table


def build_page(
    title: str, tables: Sequence[Table], figures: Mapping[str, bytes], claims: str, selection: Selection
) -> str:
    """Return the page, the same bytes for the same input.

    `figures`: PNG by name. `claims`: Markdown. A score, an average, a difference and a test of a claim lead
    to the runs behind them.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("glue_harness.reports.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    pairs = list_pairs(selection)
    anchors = {section.anchor for section in pairs}
    anchors |= {block.anchor for section in pairs for block in section.blocks}
    return environment.get_template("page.html").render(
        title=title,
        protocol=selection.protocol,
        tables=tables,
        figures=[
            (describe_figure(name), base64.b64encode(content).decode()) for name, content in figures.items()
        ],
        claims=render_claims(claims, anchors),
        lists=[("pairs", "Pairs", pairs), ("runs", "Runs", list_runs(selection))],
    )
