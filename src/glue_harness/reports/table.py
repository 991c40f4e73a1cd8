"""A table before any markup, and its Markdown and LaTeX. Pure: entries in, strings out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from tabulate import tabulate

UNKNOWN = "--"
BEST, SECOND = 1, 2
PAGE_ROWS = 38
"""How many rows a page of LaTeX has space for above a table's notes."""

TEX = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
        **{"±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "§": r"\S{}"},
    }
)


@dataclass(frozen=True)
class Entry:
    """A table's cell: text, spread, what follows, marks; `shown` is the number to compare (None: none).

    `link` names what a page leads to from here.
    """

    text: str
    spread: str = ""
    shown: float | None = None
    place: int | None = None
    marks: str = ""
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table before any markup: rows in groups, notes below.

    `head` says of each column what it is and what it counts. The first `names` hold text, the others numbers.
    `compared` says within what the best is sought, where there are several groups.
    """

    title: str
    head: list[tuple[str, str]]
    names: int
    groups: list[list[list[Entry]]]
    notes: list[str]
    compared: str = "of each model"


def mark_places(rows: list[list[Entry]]) -> list[list[Entry]]:
    """Mark the best and second best of each column of one group; ties as printed share the mark."""
    columns = []
    for column in zip(*rows, strict=True):
        ranked = sorted({entry.shown for entry in column if entry.shown is not None}, reverse=True)
        compared = sum(entry.shown is not None for entry in column) > 1
        places = dict(zip(ranked, (BEST, SECOND), strict=False)) if compared else {}
        columns.append([replace(e, place=None if e.shown is None else places.get(e.shown)) for e in column])
    return [list(row) for row in zip(*columns, strict=True)]


def to_markdown(table: Table) -> str:
    """Return the table for GitHub and for a terminal: title, table, notes as a list."""
    rows = [[_mark_down(entry) for entry in row] for group in table.groups for row in group]
    align = ["left"] * table.names + ["right"] * (len(table.head) - table.names)
    head = [f"{name} ({unit})" if unit else name for name, unit in table.head]
    body = tabulate(rows, head, tablefmt="pipe", colalign=align, disable_numparse=True)
    notes = [*table.notes, *_explain_places(table, "in italics")]
    return f"**{table.title}**\n\n{body}\n\n" + "".join(f"- {note}\n" for note in notes)


def _mark_down(entry: Entry) -> str:
    fence = {BEST: "**", SECOND: "_"}.get(entry.place or 0, "")
    text = (f"{entry.text} ± {entry.spread}" if entry.spread else entry.text).replace("|", r"\|")
    return f"{fence}{text}{fence} {entry.marks}".rstrip()


def _explain_places(table: Table, second: str) -> list[str]:
    marked = any(entry.place for group in table.groups for row in group for entry in row)
    within = f" {table.compared}" if len(table.groups) > 1 else ""
    return (
        [f"Best{within} in bold, second best {second}; ties at the printed precision share the mark."]
        if marked
        else []
    )


def to_latex(table: Table, name: str) -> str:
    """Return a table environment that needs the package booktabs only, labelled `tab:<name>`.

    Spreads are subscripts and the table is centred on the text, so that GLUE's tasks fit a page. Its title is
    the caption, above; its notes stand below. What has more rows than a page goes on in environments of its
    own, labelled `tab:<name>_2` and so on, and has its notes below the first.
    """
    notes = [*table.notes, *_explain_places(table, "underlined")]
    first, *others = _cut_pages(table.groups)
    pages = [_lay_out_page(table, first, f"{table.title}.", name, notes)]
    for number, groups in enumerate(others, start=2):
        caption = f"{table.title}, continued; the notes are below its first part."
        pages.append(_lay_out_page(table, groups, caption, f"{name}_{number}", []))
    return "\n".join(pages)


def _cut_pages(groups: list[list[list[Entry]]]) -> list[list[list[list[Entry]]]]:
    """Cut groups into pages of at most PAGE_ROWS rows, within a group only where it alone is longer."""
    pieces = [group[i : i + PAGE_ROWS] for group in groups for i in range(0, len(group), PAGE_ROWS)]
    pages: list[list[list[list[Entry]]]] = [[]]
    for piece in pieces:
        if sum(map(len, pages[-1])) + len(piece) > PAGE_ROWS:
            pages.append([])
        pages[-1].append(piece)
    return pages


def _lay_out_page(
    table: Table, groups: list[list[list[Entry]]], caption: str, name: str, notes: list[str]
) -> str:
    bodies = [
        "".join(_join_tex([_mark_tex(entry) for entry in row]) for row in _blank_repeats(group, table.names))
        for group in groups
    ]
    head = [line for line in zip(*table.head, strict=True) if any(line)]
    columns = "l" * table.names + "r" * (len(table.head) - table.names)
    lines = [
        "\\begin{table}\n\\centering\n\\footnotesize\n\\setlength{\\tabcolsep}{3pt}\n",
        "\\setlength{\\abovecaptionskip}{0pt}\n\\setlength{\\belowcaptionskip}{6pt}\n",
        f"\\caption{{{caption.translate(TEX)}}}\n\\label{{tab:{name}}}\n",
        f"\\makebox[\\linewidth]{{%\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n",
        *(_join_tex([title.translate(TEX) for title in line]) for line in head),
        "\\midrule\n",
        "\\midrule\n".join(bodies),
        "\\bottomrule\n\\end{tabular}}\n",
        *_write_notes(notes),
        "\\end{table}\n",
    ]
    return "".join(lines)


def _write_notes(notes: list[str]) -> list[str]:
    """Return a paragraph below the table, as wide as the text."""
    if not notes:
        return []
    text = " ".join(notes).translate(TEX)
    return [f"\\par\\medskip\n\\begin{{minipage}}{{\\linewidth}}\n\\scriptsize\n{text}\n\\end{{minipage}}\n"]


def _blank_repeats(rows: list[list[Entry]], names: int) -> list[list[Entry]]:
    """Leave out of each row the names at its beginning that it shares with the row above."""
    blanked = rows[:1]
    for above, row in itertools.pairwise(rows):
        differing = (place for place in range(names) if row[place] != above[place])
        shared = next(differing, names)
        blanked.append([*[Entry("")] * shared, *row[shared:]])
    return blanked


def _join_tex(fields: list[str]) -> str:
    return " & ".join(fields) + r" \\" + "\n"


def _mark_tex(entry: Entry) -> str:
    command = {BEST: r"\textbf", SECOND: r"\underline"}.get(entry.place or 0)
    text = entry.text.translate(TEX)
    text = f"{command}{{{text}}}" if command else text  # alone: a rule below a subscript moves the row
    spread = f"$_{{\\pm {entry.spread}}}$" if entry.spread else ""
    return f"{text}{spread} {entry.marks.translate(TEX)}".rstrip()
