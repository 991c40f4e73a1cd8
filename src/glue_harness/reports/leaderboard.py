"""The files that GLUE's leaderboard takes: names, rows and labels; writing and checking them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glue_harness.errors import InputError, require

HEADER = "index\tprediction"
SCORES = (0.0, 5.0)
"""The range of STS-B's similarities."""

NUMBER = re.compile(r"\d+(\.\d+)?")

ENTAILMENT = ("entailment", "not_entailment")
INFERENCE = ("entailment", "neutral", "contradiction")
BINARY = ("0", "1")


@dataclass(frozen=True)
class Sheet:
    """A file <name>.tsv of predictions on `split` of `task`; `values` by label id, None for scores."""

    name: str
    task: str
    split: str
    rows: int
    values: tuple[str, ...] | None


SHEETS = (
    Sheet("CoLA", "cola", "test", 1063, BINARY),
    Sheet("SST-2", "sst2", "test", 1821, BINARY),
    Sheet("MRPC", "mrpc", "test", 1725, BINARY),
    Sheet("STS-B", "stsb", "test", 1379, None),
    Sheet("QQP", "qqp", "test", 390965, BINARY),
    Sheet("MNLI-m", "mnli", "test_matched", 9796, INFERENCE),
    Sheet("MNLI-mm", "mnli", "test_mismatched", 9847, INFERENCE),
    Sheet("QNLI", "qnli", "test", 5463, ENTAILMENT),
    Sheet("RTE", "rte", "test", 3000, ENTAILMENT),
    Sheet("WNLI", "wnli", "test", 146, BINARY),
    Sheet("AX", "ax", "test", 1104, INFERENCE),
)
"""Rows as published; the site needs every file, the diagnostic AX too, which MNLI's model predicts."""


def write_sheet(sheet: Sheet, predictions: Sequence[float]) -> str:
    """Return a file's content from label ids, or from scores, which are brought into their range."""
    if sheet.values is None:
        low, high = SCORES
        shown = [f"{min(max(float(score), low), high):.3f}" for score in predictions]
    else:
        shown = [sheet.values[int(label)] for label in predictions]
    return "".join([f"{HEADER}\n", *(f"{row}\t{value}\n" for row, value in enumerate(shown))])


def write_archive(sheets: dict[str, str], path: Path) -> None:
    """Write the zip of all files, to the same bytes whenever it is written."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(sheets):
            archive.writestr(zipfile.ZipInfo(f"{name}.tsv"), sheets[name], zipfile.ZIP_DEFLATED)


def check_submission(path: Path) -> None:
    """Check a folder or a zip as the site would, and more: every file, row, index and value.

    Raises:
        InputError: naming file, line, value and what is allowed.
    """
    check_sheets(_read_files(path), path)


def check_sheets(files: Mapping[str, str], path: Path) -> None:
    """Check the texts of a submission by file name; `path` is their place, for the messages.

    Raises:
        InputError: naming file, line, value and what is allowed.
    """
    wanted = {f"{sheet.name}.tsv": sheet for sheet in SHEETS}
    for name in sorted(wanted.keys() ^ files.keys()):
        fault = "is missing" if name in wanted else "is unknown"
        raise InputError(f"{path}: {name} {fault}; allowed is {', '.join(sorted(wanted))}, not in a folder")
    for name, sheet in wanted.items():
        _check_sheet(f"{path}: {name}", sheet, files[name])


def _read_files(path: Path) -> dict[str, str]:
    try:
        if path.is_dir():
            return {file.name: file.read_text() for file in path.iterdir() if file.suffix == ".tsv"}
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise InputError(f"{path}: {twice} is there twice; allowed is one file a name")
            return {name: archive.read(name).decode() for name in names}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        allowed = "a folder or a zip of TSV files"
        raise InputError(f"{path}: not readable ({error}); allowed is {allowed}") from error


def _check_sheet(place: str, sheet: Sheet, text: str) -> None:
    header, *lines = text.removesuffix("\n").split("\n")
    require(header == HEADER, f"{place}: line 1", header, HEADER.replace("\t", "<tab>"))
    require(len(lines) == sheet.rows, f"{place}: rows", len(lines), f"the published {sheet.rows}")
    for row, line in enumerate(lines):
        index, _, value = line.partition("\t")
        require(index == str(row), f"{place}: line {row + 2}: index", index, str(row))
        allowed = f"{SCORES[0]} to {SCORES[1]}" if sheet.values is None else " or ".join(sheet.values)
        require(_is_allowed(sheet, value), f"{place}: line {row + 2}: prediction", value, allowed)


def _is_allowed(sheet: Sheet, value: str) -> bool:
    if sheet.values is not None:
        return value in sheet.values
    return NUMBER.fullmatch(value) is not None and SCORES[0] <= float(value) <= SCORES[1]
