"""How far a run is: a bar for its own terminal, and a small file for whoever asks from elsewhere."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

LOG_INTERVAL_SECONDS = 30.0
PROGRESS_NAME = "progress.json"


def open_bar(**settings: Any) -> tqdm:
    """Return a bar on stderr; where that is no terminal it adds a line now and then, not ten a second."""
    interval = 0.1 if sys.stderr.isatty() else LOG_INTERVAL_SECONDS
    return tqdm(mininterval=interval, maxinterval=interval, dynamic_ncols=True, **settings)


@dataclass(frozen=True)
class Progress:
    """How far the run of a cell and seed is: optimiser steps, and seconds left once a pace is known."""

    cell: str
    seed: int
    step: int
    steps: int
    seconds_left: float | None
    host: str
    pid: int


def write_progress(progress: Progress, folder: Path) -> None:
    """Put a run's progress in its folder, whole; it is not worth a sync."""
    path = folder / PROGRESS_NAME
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(dataclasses.asdict(progress)))
    partial.replace(path)


def read_progress(folder: Path) -> Progress | None:
    """Return the progress noted down in a run's folder, or None where there is none."""
    try:
        return Progress(**json.loads((folder / PROGRESS_NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def clear_progress(folder: Path) -> None:
    """Remove a run's progress: it has come to an end."""
    (folder / PROGRESS_NAME).unlink(missing_ok=True)
