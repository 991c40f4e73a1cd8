"""One block of a grid -> its cells: composed once for each choice of files, then filled in."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from glue_harness.config.compose import compose_config, only_sets, parse_override
from glue_harness.config.schema import Config
from glue_harness.config.validation import check, fill_in
from glue_harness.hardware import Environment, resolve_environment
from glue_harness.runs.identity import Identity, describe_plan, get_rank, hash_plan, identify
from glue_harness.runs.index import Key
from glue_harness.runs.record import RunRecord, read_record

Place = tuple[str, ...]
Changes = dict[Place, Any]
"""What differs between two configurations: values by where they stand."""

WITHOUT_GRID = "sourced_grid@experiment=none"
"""What one run is composed with besides: it has no use for a long grid (an optional file: none is there)."""


@dataclass(frozen=True)
class Cell:
    """One planned run: the overrides that select it, its resolved configuration and its cell hash.

    `source` is the run of another task that it starts from, if it does. All but `identity`, `folder` and
    `record` is the same on every machine.
    """

    overrides: tuple[str, ...]
    config: Config
    cell_hash: str
    source: Cell | None = None

    @property
    def key(self) -> Key:
        """The planned run, on whatever machine."""
        return self.cell_hash, self.config.seed

    @property
    def model(self) -> str:
        """The model's name."""
        return self.config.model.name

    @property
    def task(self) -> str:
        """The task's name."""
        return self.config.task.name

    @property
    def method(self) -> str:
        """The method's name."""
        return self.config.method.name

    @property
    def label(self) -> str:
        """The method with its rank, as tables and folders have it."""
        return self.config.method.label

    @property
    def rank(self) -> int | None:
        """The adapter's rank, if it has one."""
        return get_rank(self.config)

    @property
    def planned(self) -> dict[str, Any]:
        """Everything in conf/ that can change the run's result, the seed apart: a view, not to be changed."""
        return describe_plan(self.config, self._source_hash)

    @cached_property
    def identity(self) -> Identity:
        """The run as this machine makes it. What the machine is takes seconds to find out, once.

        Raises:
            InputError: this machine cannot make it as it is planned.
        """
        return self.identify_on(resolve_environment(self.config.trainer.precision))

    def identify_on(self, environment: Environment) -> Identity:
        """Return the run as a machine makes it that gives it `environment`."""
        return identify(self.config, environment, self._source_hash)

    @property
    def _source_hash(self) -> str | None:
        return None if self.source is None else self.source.cell_hash

    @property
    def folder(self) -> Path:
        """The run's folder on this machine."""
        return Path(self.config.runs_dir) / self.identity.folder

    def record(self) -> RunRecord | None:
        """Return the record of the run as this machine makes it, or None."""
        return read_record(self.folder)


def as_overrides(assignment: dict[str, Any]) -> list[str]:
    """Write values as on the command line."""
    return [f"{axis}={'null' if value is None else value}" for axis, value in assignment.items()]


def expand_block(fixed: list[str], axes: dict[str, Any]) -> Iterator[Cell]:
    """Yield the cells of a block, in the order of its product."""
    values = {axis: value if isinstance(value, list) else [value] for axis, value in axes.items()}
    choosing = [axis for axis in values if not _holds_single_values(axis, values[axis])]
    templates: Templates = {}
    for combination in itertools.product(*values.values()):
        assignment = dict(zip(values, combination, strict=True))
        choice = as_overrides({axis: assignment.pop(axis) for axis in choosing})
        yield _fill_cell((*fixed, *choice), assignment, templates)


def build_cell(config: Config, overrides: Sequence[str]) -> Cell:
    """Return the cell of a configuration that Hydra has composed from `overrides`."""
    if config.init_from is None:
        return Cell(tuple(overrides), config, hash_plan(config))
    source = _fill_source(overrides, config.init_from, {}, {})
    return Cell(tuple(overrides), config, hash_plan(config, source.cell_hash), source)


def _fill_cell(chosen: tuple[str, ...], values: dict[str, Any], templates: Templates) -> Cell:
    """Return the cell of these overrides and values; `templates` keeps what is composed."""
    if chosen not in templates:
        templates[chosen] = Template(list(chosen), values)
    template = templates[chosen]
    origin = template.find_origin(values)
    source = None if origin is None else _fill_source(chosen, origin, values, templates)
    config, cell_hash = template.fill(values, None if source is None else source.cell_hash)
    return Cell((*chosen, *as_overrides(values)), config, cell_hash, source)


def _fill_source(chosen: Sequence[str], task: str, values: dict[str, Any], templates: Templates) -> Cell:
    """Return the run of `task` that a run starts from: it has the same overrides and values otherwise."""
    kept = [override for override in chosen if override.partition("=")[0] not in ("task", "init_from")]
    return _fill_cell((*kept, f"task={task}"), values | {"init_from": None}, templates)


def _holds_single_values(axis: str, values: list[Any]) -> bool:
    """Say whether an axis only sets values of conf/, and none of them a list or a mapping."""
    if any(isinstance(value, list | dict) for value in values):
        return False
    return all(only_sets(parse_override(text)) for value in values for text in as_overrides({axis: value}))


class Template:
    """A configuration composed once, and what each value of an axis changes in it.

    Axes whose changes do not meet are filled in one by one. So a grid costs the sum of its axes, not their
    product, and every interpolation holds all the same.
    """

    def __init__(self, overrides: list[str], start: dict[str, Any]) -> None:
        self._start = _parse_values(start)
        self._composed = compose_config([*overrides, *as_overrides(start), WITHOUT_GRID])
        self._base = fill_in(self._composed, {})
        self._changes: dict[tuple[str, str], Changes] = {(axis, repr(v)): {} for axis, v in start.items()}
        self._settings: dict[tuple[Any, ...], tuple[Config, str]] = {}

    def find_origin(self, values: dict[str, Any]) -> str | None:
        """Return the task whose run the configuration with `values` set starts from, or None.

        Raises:
            InputError: it is not one to start from.
        """
        changes = self._find_changes("init_from", values["init_from"]) if "init_from" in values else {}
        return changes.get(("init_from",), self._base.init_from)

    def fill(self, values: dict[str, Any], source_hash: str | None = None) -> tuple[Config, str]:
        """Return the configuration with `values` set, and its cell hash.

        `source_hash` is the cell hash of the run that it starts from.

        Raises:
            InputError: a value of the wrong type or outside its range.
        """
        reseeding = self._find_changes("seed", values["seed"]) if "seed" in values else {}
        if reseeding.keys() - {("seed",)}:  # something else follows the seed
            config = self._build(values)
            return config, hash_plan(config, source_hash)
        others = {axis: value for axis, value in values.items() if axis != "seed"}
        setting = (source_hash, *others.values())
        if setting not in self._settings:
            config = self._build(others)
            self._settings[setting] = config, hash_plan(config, source_hash)
        config, cell_hash = self._settings[setting]
        return apply_changes(config, reseeding), cell_hash

    def _build(self, values: dict[str, Any]) -> Config:
        merged: Changes = {}
        for axis, value in values.items():
            changes = self._find_changes(axis, value)
            if _meet(merged, changes):
                return self._resolve(values)
            merged |= changes
        config = apply_changes(self._base, merged)
        check(config)
        return config

    def _find_changes(self, axis: str, value: Any) -> Changes:
        key = (axis, repr(value))
        if key not in self._changes:
            self._changes[key] = compare(self._base, self._resolve({axis: value}))
        return self._changes[key]

    def _resolve(self, values: dict[str, Any]) -> Config:
        return fill_in(self._composed, self._start | _parse_values(values))


Templates = dict[tuple[str, ...], Template]
"""Templates by the overrides that they are composed of."""


def _parse_values(values: dict[str, Any]) -> dict[str, Any]:
    texts = as_overrides(values)
    return {axis: parse_override(text).value() for axis, text in zip(values, texts, strict=True)}


def compare(base: Any, other: Any, path: Place = ()) -> Changes:
    """Return what has to change in `base` to make it `other`, as deep down as their shapes agree."""
    parts: list[tuple[str, Any, Any]]
    if dataclasses.is_dataclass(base) and type(base) is type(other):
        parts = [(name, getattr(base, name), getattr(other, name)) for name in vars(base)]
    elif isinstance(base, dict) and isinstance(other, dict) and base.keys() == other.keys():
        parts = [(name, base[name], other[name]) for name in base]
    else:
        return {} if base == other and type(base) is type(other) else {path: other}
    return {place: value for name, a, b in parts for place, value in compare(a, b, (*path, name)).items()}


def apply_changes(base: Any, changes: Changes) -> Any:
    """Return `base` with the values at these places replaced; parts without a change are shared."""
    if () in changes:
        return changes[()]
    if not changes:
        return base
    parts: dict[str, Changes] = {}
    for path, value in changes.items():
        parts.setdefault(path[0], {})[path[1:]] = value
    if isinstance(base, dict):
        return base | {name: apply_changes(base[name], inner) for name, inner in parts.items()}
    changed = copy.copy(base)
    for name, inner in parts.items():
        setattr(changed, name, apply_changes(getattr(base, name), inner))
    return changed


def _meet(changes: Changes, others: Changes) -> bool:
    """Say whether two sets of changes touch: the same place, or one within the other."""
    return any(a[: len(b)] == b[: len(a)] for a in changes for b in others)
