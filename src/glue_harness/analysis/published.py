"""What others have published on GLUE's dev sets: conf/published.yaml, typed and checked."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, TypeAdapter

from glue_harness.errors import CONF, InputError, choices
from glue_harness.io import Strict, read_yaml


class Published(Strict):
    """A published row: percent by task, of the task's headline metric, and the spreads where it prints any.

    `from_mnli`: the tasks whose runs start from MNLI's; None where the source does not say.
    """

    model: str
    label: str
    statistic: str
    from_mnli: list[str] | None
    source: str
    scores: dict[str, float]
    spreads: dict[str, float] = Field(default_factory=dict)


def read_published(path: Path = CONF / "published.yaml") -> list[Published]:
    """Return the published rows of a file.

    Raises:
        InputError: it is no YAML, a row lacks a field or has an unknown one, or a model or task is not ours.
    """
    rows = read_yaml(path, TypeAdapter(list[Published]))
    for number, row in enumerate(rows):
        _require_known(f"{path}: {number}.model", [row.model], choices("model"))
        tasks = [*row.scores, *row.spreads, *(row.from_mnli or [])]
        _require_known(f"{path}: {number}: task", tasks, choices("task"))
    return rows


def _require_known(place: str, names: list[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"{place}={name}: allowed is one of {', '.join(known)}")
