"""claims.md -> HTML for a page: its tables sort, the numbers of its tests lead to the pairs behind them."""

from __future__ import annotations

import itertools
from collections.abc import Collection

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from glue_harness.reports.claims import TESTS
from glue_harness.reports.notes import anchor_pairs

TITLES = [title for title, _ in TESTS]
NUMBERS = TITLES.index("Seeds")
"""The first column of the tests that holds a number."""


def render_claims(text: str, anchors: Collection[str]) -> Markup:
    """Return the HTML of claims.md; `anchors`: the pairs that the page has, as `notes.anchor_pairs`."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for before, token in itertools.pairwise(tokens):
        if before.type == "th_open":
            before.attrSet("scope", "col")
            _wrap(token, '<button type="button">', "</button>")
    for row in _list_rows(tokens):
        names = dict(zip(TITLES, (cell.content for cell in row), strict=False))
        link = anchor_pairs(names.get("On", ""), names.get("Against", ""), names.get("Task", ""))
        if len(row) == len(TITLES) and link in anchors:
            for cell in row[NUMBERS:]:
                _wrap(cell, f'<a href="#{link}">', "</a>")
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))


def _list_rows(tokens: list[Token]) -> list[list[Token]]:
    """Return the cells of every row of every table."""
    rows: list[list[Token]] = []
    for before, token in itertools.pairwise(tokens):
        if before.type == "tr_open":
            rows.append([])
        if token.type == "inline" and before.type == "td_open":
            rows[-1].append(token)
    return rows


def _wrap(cell: Token, opening: str, closing: str) -> None:
    """Put a cell's content between two tags; an anchor holds nothing that HTML would read."""
    ends = [Token("html_inline", "", 0, content=tag) for tag in (opening, closing)]
    cell.children = [ends[0], *(cell.children or []), ends[1]]
