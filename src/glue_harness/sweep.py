"""From an experiment's grid to its cells, to what is left to run, to runs in fresh child processes."""

from __future__ import annotations

import contextlib
import itertools
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from glue_harness.config import Config, enforce_schema, fill_in
from glue_harness.errors import CONF, InputError, input_errors
from glue_harness.hardware import resolve_environment
from glue_harness.records import (
    Identity,
    RunRecord,
    Status,
    find_records,
    find_source,
    identify,
    read_record,
)


@dataclass(frozen=True)
class Cell:
    """One planned run: the overrides that select it, its resolved configuration and its identity.

    `source` is the run of another task that it starts from, if it does.
    """

    overrides: tuple[str, ...]
    config: Config
    identity: Identity
    source: Identity | None = None

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.config.runs_dir) / self.identity.folder

    def record(self) -> RunRecord | None:
        """Return the record of the run as this machine makes it, or None."""
        return read_record(self.folder)

    def is_finished(self) -> bool:
        """Say whether the planned run has come to an end: in any environment, at the same numerics."""
        found = find_records(self.identity, Path(self.config.runs_dir))
        same = (record for _, record in found if record.identity.numerics == self.identity.numerics)
        return any(record.status is not Status.FAILED for record in same)


@dataclass(frozen=True)
class Plan:
    """An experiment's cells, under the name its results go by."""

    name: str
    title: str
    config: Config
    cells: list[Cell]

    def unfinished(self) -> list[Cell]:
        """Return the cells that have not come to an end, failed ones included."""
        return [cell for cell in self.cells if not cell.is_finished()]


def order_stages(todo: Sequence[Cell]) -> list[list[Cell]]:
    """Return the cells to run first, and those to run once these are through: they start from one of them.

    Raises:
        InputError: a run that a cell starts from is neither there nor among `todo`; names the command.
    """
    planned = {cell.identity.folder for cell in todo}
    first, second = [], []
    for cell in todo:
        if cell.source is None or find_source(cell.identity, Path(cell.config.runs_dir)) is not None:
            first.append(cell)
        elif cell.source.folder in planned:
            second.append(cell)
        else:
            command = shlex.join(source_overrides(cell.overrides, cell.source.task))
            raise InputError(
                f"init_from={cell.source.task}: {Path(cell.config.runs_dir) / cell.source.folder} holds no "
                f"complete run to start from; make it first: python -m glue_harness.train {command}"
            )
    return [stage for stage in (first, second) if stage]


VARIED = ("rank", "seed")
"""Axes that choose no file of conf/: a configuration is composed once and filled in with their values."""


Templates = dict[tuple[str, ...], DictConfig]
"""Composed configurations by their overrides, those of VARIED apart."""


def plan(overrides: list[str]) -> Plan:
    """Compose the grid of the experiment that `overrides` choose, or their own product of values.

    A swept value (`seed=1,2`) or a fixed one (`model=minilm`) on the command line takes the place of that
    axis in every block; `only.<axis>=[…]` filters the grid. The cells are the blocks' union, each run once.

    Raises:
        InputError: a name or value that does not exist, or a filter that matches nothing.
    """
    with _composer(), input_errors():
        fixed, swept = _split_overrides(overrides)
        base = fill_in(_compose([*fixed, *_as_overrides({axis: v[0] for axis, v in swept.items()})]), {})
        _check_filters(base)
        named = {override.partition("=")[0] for override in fixed}
        cells: dict[tuple[str, int], Cell] = {}
        for block in base.experiment.grid or [{}]:
            axes = {axis: v for axis, v in _filter_block(block, base).items() if axis not in named} | swept
            for cell in _build_cells(fixed, axes):
                cells.setdefault((cell.identity.config_hash, cell.identity.seed), cell)
        name = _results_name(base, fixed)
    if not cells:
        raise InputError(
            f"only={_filters(base)}: no run of the grid has all of these; allowed is a part of it"
        )
    return Plan(name=name, title=base.experiment.title or name, config=base, cells=list(cells.values()))


@contextlib.contextmanager
def _composer() -> Iterator[None]:
    """Make `hydra.compose` work inside and outside of a Hydra application."""
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield


def _split_overrides(overrides: list[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """Separate fixed overrides from swept ones (axis -> values)."""
    fixed, swept = [], {}
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_discrete_sweep():
            swept[override.get_key_element()] = list(override.sweep_string_iterator())
        else:
            fixed.append(override.input_line or "")
    return fixed, swept


def _compose(overrides: list[str]) -> DictConfig:
    return enforce_schema(compose("config", overrides))


def _as_overrides(assignment: dict[str, Any]) -> list[str]:
    return [f"{axis}={'null' if value is None else value}" for axis, value in assignment.items()]


def _build_cells(fixed: list[str], axes: dict[str, Any]) -> Iterator[Cell]:
    """Yield the cells of one block, in the order of its product."""
    templates: Templates = {}
    for assignment in _product(axes):
        varied = {axis: assignment[axis] for axis in VARIED if axis in assignment}
        chosen = (*fixed, *_as_overrides({a: v for a, v in assignment.items() if a not in varied}))
        if chosen not in templates:
            templates[chosen] = _compose(list(chosen))
        config = fill_in(templates[chosen], varied)
        overrides = (*chosen, *_as_overrides(varied))
        yield build_cell(config, overrides, templates)


def build_cell(config: Config, overrides: Sequence[str], templates: Templates) -> Cell:
    """Return the cell of a composed configuration; `templates` keeps what is composed for its source.

    A run that starts from another task's (`init_from`) starts from the one that the same overrides describe
    with that task in the place of its own.
    """
    source = None
    if config.init_from is not None:
        chosen = source_overrides(overrides, config.init_from)
        varied = {name: getattr(config, name) for name in VARIED}
        key = tuple(o for o in chosen if o.partition("=")[0] not in VARIED)
        if key not in templates:
            templates[key] = _compose(list(key))
        origin = fill_in(templates[key], varied)
        source = identify(origin, resolve_environment(origin.trainer))
    identity = identify(config, resolve_environment(config.trainer), source)
    return Cell(tuple(overrides), config, identity, source)


def source_overrides(overrides: Sequence[str], task: str) -> list[str]:
    """Return the overrides of the run of `task` that a run with `overrides` starts from."""
    own = [o for o in overrides if o.partition("=")[0] not in ("task", "init_from")]
    return [*own, f"task={task}", "init_from=null"]


def _product(axes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    values = [value if isinstance(value, list) else [value] for value in axes.values()]
    for combination in itertools.product(*values):
        yield dict(zip(axes, combination, strict=True))


def _filters(config: Config) -> dict[str, list[Any]]:
    return {axis: values for axis, values in vars(config.only).items() if values}


def _filter_block(block: dict[str, Any], base: Config) -> dict[str, Any]:
    filtered = dict(block)
    for axis, wanted in _filters(base).items():
        if axis in block:
            values = block[axis] if isinstance(block[axis], list) else [block[axis]]
            filtered[axis] = [value for value in values if value in wanted]
    return filtered


def _check_filters(base: Config) -> None:
    for axis, wanted in _filters(base).items():
        offered: dict[Any, None] = {}
        for block in base.experiment.grid:
            values = block.get(axis, [])
            offered |= dict.fromkeys(values if isinstance(values, list) else [values])
        missing = [value for value in wanted if value not in offered]
        if missing:
            shown = ", ".join(str(value) for value in offered) or "nothing: there is no such axis in the grid"
            raise InputError(f"only.{axis}={missing[0]}: allowed is {shown}")


def _results_name(base: Config, fixed: list[str]) -> str:
    """Name the results: the experiment, and whatever the command line put in the place of its own choices."""
    if base.experiment.name is None:
        return "sweep"
    kept = [o for o in fixed if o.partition("=")[0] not in ("model", "trainer", "data", "preset")]
    own = _compose(kept)
    replaced = [base.model.name] * (base.model.name != own.model.name)
    replaced += [base.trainer.name] * (base.trainer.name != own.trainer.name)
    replaced += ["miniature"] * (base.data.name == "miniature" != own.data.name)
    replaced += [o.partition("=")[2] for o in fixed if o.startswith("preset=")]
    return "-".join([base.experiment.name, *replaced])
