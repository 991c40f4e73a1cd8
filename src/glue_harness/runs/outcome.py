"""How an attempt at a run ended: as whoever made it says, or as its record tells."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from glue_harness.runs.record import Status, read_record


class End(StrEnum):
    """How an attempt ended. The first three are a record's status."""

    COMPLETE = "complete"
    DIVERGED = "diverged"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It had ended well before."""
    BUSY = "busy"
    """Another process is at it."""
    INTERRUPTED = "interrupted"
    LOST = "lost"
    """It has no record, and whoever was at it is gone."""
    BLOCKED = "blocked"
    """What it starts from is not there."""


class Ending(NamedTuple):
    """How an attempt at a run ended, one line about it, and the run's folder if it came as far as that.

    The folder is that of the machine which made the attempt: another one's environment gives it another.
    """

    state: End
    message: str
    folder: Path | None = None

    @property
    def is_well(self) -> bool:
        """Whether the run has what it was made for."""
        return self.state in (End.COMPLETE, End.SKIPPED)


def describe_end(status: Status, error: str | None, folder: Path) -> Ending:
    """Return how a run ended as its record tells it."""
    line = last_line(error)
    return Ending(End(status), f"{folder}: {line}" if line else str(folder), folder)


def find_ending(folder: Path) -> Ending | None:
    """Return that there is nothing to do in a run's folder, if there is not.

    Raises:
        InputError: the record cannot be read.
    """
    record = read_record(folder)
    if record is None or record.status is Status.FAILED:
        return None
    return Ending(End.SKIPPED, f"{folder} is {record.status}; nothing to do", folder)


def describe_owned(folder: Path) -> Ending:
    """Return that another process owns a run."""
    return Ending(End.BUSY, f"{folder} is being run by another process", folder)


def last_line(text: str | None) -> str:
    """Return the last line of a traceback or message, which says what happened."""
    return (text or "").strip().rpartition("\n")[2]
