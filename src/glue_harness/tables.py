"""Summaries -> the main table in Markdown, LaTeX and CSV. Pure: frames in, strings out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pandas as pd
from tabulate import tabulate

from glue_harness import evidence
from glue_harness.captions import describe_runs, explain_cells, name_metric, name_row, name_task
from glue_harness.config import Protocol
from glue_harness.evidence import Row
from glue_harness.selection import ROW_KEY

UNKNOWN = "--"
BEST, SECOND = 1, 2
TEX = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
        **{"±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$"},
    }
)


@dataclass(frozen=True)
class Entry:
    """A table's cell: text, spread, what follows, marks; `shown` is the number to compare (None: none)."""

    text: str
    spread: str = ""
    shown: float | None = None
    place: int | None = None
    marks: str = ""


@dataclass(frozen=True)
class Table:
    """A table before any markup: rows in groups (one a model), notes below.

    `head` says of each column what it is and what it counts. The first `names` hold text, the others numbers.
    """

    title: str
    head: list[tuple[str, str]]
    names: int
    groups: list[list[list[Entry]]]
    notes: list[str]


def build_main_table(
    scored: pd.DataFrame, summary: pd.DataFrame, averages: pd.DataFrame, protocol: Protocol, title: str
) -> Table:
    """Lay out methods by tasks from `selection`'s frames, rows and columns in grid order.

    Best and second best are sought among one model's complete cells; equal as shown is equal.
    """
    headlines = dict(zip(summary["task"], summary["headline"], strict=True))
    models = list(dict.fromkeys(summary["model"]))
    seeds = Counter(summary["planned"]).most_common(1)[0][0]
    several_models, several_tasks = len(models) > 1, len(headlines) > 1
    average_by_row = {_key(row): row["average"] for row in evidence.list_rows(averages)}
    rows: dict[tuple, dict[str, Row]] = {}
    for cell in evidence.list_rows(summary):
        rows.setdefault(_key(cell), {})[cell["task"]] = cell
    groups: dict[str, list[list[Entry]]] = {model: [] for model in models}
    for key, cells in rows.items():
        entries = [*_name_entries(list(cells.values()), several_models)]
        entries += [_show_cell(cells.get(task), seeds) for task in headlines]
        entries += [_show_number(average_by_row[key])] * several_tasks
        groups[key[0]].append(entries)
    head = [*[("Model", "")] * several_models, ("Method", "")]
    head += [("Adapter", "parameters"), ("Head", "parameters")]
    head += [(name_task(task), name_metric(metric)) for task, metric in headlines.items()]
    head += [("Average", "")] * several_tasks
    notes = [*explain_cells(summary, protocol, seeds), *describe_runs(scored)]
    return Table(title, head, 1 + several_models, [_mark_places(rows) for rows in groups.values()], notes)


def _key(row: Row) -> tuple:
    return tuple(row[name] for name in ROW_KEY)


def _name_entries(cells: list[Row], several_models: bool) -> list[Entry]:
    model = [Entry(cells[0]["model"])] * several_models
    counts = [_show_count(cells, f"{part}_parameters") for part in ("adapter", "head")]
    return [*model, Entry(name_row(cells[0])), *counts]


def _show_count(cells: list[Row], name: str) -> Entry:
    """Show a number of parameters, the largest: a head's depends on the task's number of labels."""
    known = [cell[name] for cell in cells if cell[name] is not None]
    return Entry(f"{max(known):,}" if known else UNKNOWN)


def _show_cell(cell: Row | None, seeds: int) -> Entry:
    if cell is None:
        return Entry("not planned")
    signs = {"†": cell["degenerate"], "‡": cell["diverged"]}
    marks = [f"{sign}{count}" for sign, count in signs.items() if count]
    if cell["statistic"] is None:
        return Entry(f"{UNKNOWN} ({cell['entered']}/{cell['planned']})", marks=" ".join(marks))
    spread = "" if cell["spread"] is None else f"{100 * cell['spread']:.1f}"
    number = [] if cell["planned"] == seeds else [f"(n={cell['planned']})"]
    return replace(_show_number(cell["statistic"]), spread=spread, marks=" ".join([*number, *marks]))


def _show_number(value: float | None) -> Entry:
    if value is None:
        return Entry(UNKNOWN)
    text = f"{100 * value:.1f}"
    return Entry(text, shown=float(text))


def _mark_places(rows: list[list[Entry]]) -> list[list[Entry]]:
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
    within = " of each model" if len(table.groups) > 1 else ""
    return [f"Best{within} in bold, second best {second}; equal as shown is equal."] if marked else []


def to_latex(table: Table, name: str) -> str:
    """Return a table environment that needs the package booktabs only, labelled `tab:<name>`.

    Spreads are subscripts and the table is centred on the text, so that GLUE's tasks fit a page.
    """
    notes = [*table.notes, *_explain_places(table, "underlined")]
    caption = " ".join([f"{table.title}.", *notes]).translate(TEX)
    groups = ["".join(_join_tex([_mark_tex(entry) for entry in row]) for row in g) for g in table.groups]
    columns = "l" * table.names + "r" * (len(table.head) - table.names)
    lines = [
        "\\begin{table}\n\\centering\n\\footnotesize\n\\setlength{\\tabcolsep}{3pt}\n",
        f"\\caption{{{caption}}}\n\\label{{tab:{name}}}\n",
        f"\\makebox[\\linewidth]{{%\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n",
        *(_join_tex([title.translate(TEX) for title in line]) for line in zip(*table.head, strict=True)),
        "\\midrule\n",
        "\\midrule\n".join(groups),
        "\\bottomrule\n\\end{tabular}}\n\\end{table}\n",
    ]
    return "".join(lines)


def _join_tex(fields: list[str]) -> str:
    return " & ".join(fields) + r" \\" + "\n"


def _mark_tex(entry: Entry) -> str:
    command = {BEST: r"\textbf", SECOND: r"\underline"}.get(entry.place or 0)
    text = entry.text.translate(TEX) + (f"$_{{\\pm {entry.spread}}}$" if entry.spread else "")
    text = f"{command}{{{text}}}" if command else text
    return f"{text} {entry.marks.translate(TEX)}".rstrip()


def to_csv(summary: pd.DataFrame, averages: pd.DataFrame, protocol: Protocol) -> str:
    """Return the raw numbers, a line a cell: fractions in full precision, `scores` in order of the runs.

    A row's average over tasks is the line whose task is `average`.
    """
    cells = summary.assign(scores=[" ".join(map(repr, scores)) for scores in summary["scores"]])
    means = averages.rename(columns={"average": "statistic"}).assign(task="average")
    lines = pd.concat([cells, means]).rename(columns={"statistic": "value"})
    lines.insert(len(ROW_KEY), "protocol", protocol.name)
    lines.insert(len(ROW_KEY) + 1, "statistic", protocol.statistic)
    return lines.to_csv(index=False, lineterminator="\n")
