"""Puts committed tables into README.md and docs/, each between two markers.

`<!-- results:first_light/table_main -->` … `<!-- /results -->` holds the table of the file
results/first_light/table_main.md and the notes below it, without its title. Of a file with several tables,
`results:bench/layers#Training step` is the one whose head begins so.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from glue_harness.errors import InputError, require

END = "<!-- /results -->"
MARKER = re.compile(r"<!-- results:(?P<file>[\w-]+/[\w-]+)(?:#(?P<head>.+?))? -->")
FORM = f"<!-- results:<experiment>/<table> --> … {END}"


def fill_tables(text: str, results: Path, place: str) -> str:
    """Return a document with the committed tables between its markers; `place` names it in messages.

    Raises:
        InputError: no marker, one that is not closed or not opened, or the name of a table that is not there.
    """
    filled: list[str] = []
    opened: str | None = None
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        here = f"{place}: line {number}"
        marker = MARKER.fullmatch(line)
        if line == END:
            require(opened is not None, here, line, f"after its beginning, {FORM}")
            opened = None
        elif marker:
            require(opened is None, here, line, f"after the end of {opened}")
            opened = line
            filled += [line, "", *_read_table(results, marker, here), ""]
            continue
        elif "<!-- results" in line or "/results -->" in line:
            raise InputError(f"{here}={line}: allowed is {FORM}, each marker a line of its own")
        if opened is None:
            filled.append(line)
    require(opened is None, place, opened, f"a marker with its end, {END}")
    require(END in filled, place, "no marker", FORM)
    return "\n".join(filled) + "\n"


def _read_table(results: Path, marker: re.Match[str], here: str) -> list[str]:
    """Return the lines of the table that a marker names, and of the notes that follow it."""
    path = results / f"{marker['file']}.md"
    if not path.is_file():
        known = sorted(f"{p.parent.name}/{p.stem}" for p in results.glob("*/*.md"))
        raise InputError(f"{here}: results={marker['file']}: allowed is one of {', '.join(known)}")
    blocks = [block.strip().splitlines() for block in path.read_text().split("\n\n")]
    tables = [
        [*lines, "", *following] if _is_list(following, "- ") else lines
        for lines, following in itertools.pairwise([*blocks, []])
        if _is_list(lines, "|")
    ]
    heads = [lines[0].strip("|").split("|")[0].strip() for lines in tables if lines]
    wanted = [
        lines for head, lines in zip(heads, tables, strict=True) if head.startswith(marker["head"] or "")
    ]
    allowed = f"the beginning of one table's head; {path} has {', '.join(heads)}"
    require(len(wanted) == 1, f"{here}: table", marker["head"] or "not said", allowed)
    return wanted[0]


def _is_list(lines: list[str], mark: str) -> bool:
    return bool(lines) and all(line.startswith(mark) for line in lines)


def find_documents() -> list[Path]:
    """Return the documents here that have a marker: README.md and docs/."""
    candidates = [Path("README.md"), *sorted(Path("docs").glob("*.md"))]
    return [path for path in candidates if path.is_file() and "<!-- results:" in path.read_text()]
