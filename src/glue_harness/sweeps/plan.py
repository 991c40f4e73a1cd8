"""From an experiment's grid to its cells, and to what is left of them to run."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from glue_harness.config.compose import compose_config, parse_override
from glue_harness.config.schema import Config, name_run, scale_alpha
from glue_harness.config.validation import fill_in
from glue_harness.errors import CONF, InputError, choices, input_errors, require
from glue_harness.hardware import no_garbage_collection
from glue_harness.runs.index import Inventory, Key, State, take_inventory
from glue_harness.sweeps.grid import Cell, as_overrides, expand_block

CHOOSES_GRID = ("model", "trainer", "preset")
"""Axes that may choose another grid for one experiment."""


@dataclass(frozen=True)
class Plan:
    """An experiment's cells, under the name its results go by."""

    name: str
    title: str
    config: Config
    cells: list[Cell]

    def take_inventory(self) -> Inventory:
        """Read what there is of the planned runs, and of others of their models.

        Raises:
            InputError: a record cannot be read.
        """
        models = {cell.config.model.name for cell in self.cells}
        return take_inventory(Path(self.config.runs_dir), models)

    def select(self, inventory: Inventory, states: Collection[State]) -> list[Cell]:
        """Return the cells that stand in one of these states."""
        return [cell for cell in self.cells if inventory.state(cell.key) in states]


def plan(overrides: list[str]) -> Plan:
    """Compose the grid of the experiment that `overrides` choose, or their own product of values.

    A swept value (`seed=1,2`) or a fixed one (`model=minilm`) on the command line takes the place of that
    axis in every block; `only.<axis>=[…]` filters the grid. The cells are the blocks' union, each run once.

    Raises:
        InputError: a name or value that does not exist, or a filter that matches nothing.
    """
    with _composer(), input_errors(), no_garbage_collection():
        fixed, swept = _split_overrides(overrides)
        bases = list(_compose_bases(fixed, swept))
        base = bases[0][0]
        named = {override.partition("=")[0] for override in fixed}
        cells: dict[Key, Cell] = {}
        for own, left in bases:
            for block in own.experiment.grid or [{}]:
                axes = {axis: v for axis, v in _filter_block(block, own).items() if axis not in named} | left
                for cell in expand_block(fixed, axes):
                    cells.setdefault(cell.key, cell)
        name = _results_name(base, fixed, swept)
    if not cells:
        raise InputError(
            f"only={_filters(base)}: no run of the grid has all of these; allowed is a part of it"
        )
    if base.experiment.tuned:
        _require_tuned(base.experiment.name, cells.values())
    return Plan(name=name, title=base.experiment.title or name, config=base, cells=list(cells.values()))


def without_filters(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that choose all of an experiment, of those that choose a part of it."""
    return [override for override in overrides if not override.startswith("only.")]


def _require_tuned(name: str | None, cells: Iterable[Cell]) -> None:
    """Check that every cell's rates are those of a search.

    Raises:
        InputError: there is none of a cell's model and method, or a cell has other rates.
    """
    read = functools.cache(_read_tuned)
    missing: dict[str, dict[str, None]] = {}
    for cell in cells:
        model, method, trainer = cell.config.model.name, cell.config.method.name, cell.config.trainer
        searched = read(model, method, cell.config.task.name)
        if searched is None:
            missing.setdefault(model, {})[method] = None
            continue
        given = (trainer.learning_rate, trainer.head_learning_rate, trainer.alpha)
        published = cell.config.method.alpha
        alpha = scale_alpha(searched.get("alpha", published), searched.get("rank"), cell.config.rank)
        wanted = (searched["learning_rate"], searched["head_learning_rate"], alpha)
        if given != wanted:
            place = f"experiment={name}: {name_run(cell.config)}"
            raise InputError(
                f"{place}: trainer.learning_rate, head_learning_rate, alpha={given}: allowed is {wanted}, as "
                "conf/tuned has them"
            )
    for model, methods in missing.items():
        listed, own = ",".join(methods), f"tune_{model}"
        search = f"experiment={own}" if own in choices("experiment") else f"model={model}"
        allowed = f"allowed is what `edora-glue tune {search} 'only.method=[{listed}]'` has searched"
        raise InputError(
            f"experiment={name}: model={model}, method={listed}: no rates in conf/tuned; {allowed}"
        )


def _read_tuned(model: str, method: str, task: str) -> dict[str, Any] | None:
    """Return the rates that a search found for a model, method and task, or over the tasks it searched."""
    for file in (f"{model}_{method}_{task}.yaml", f"any/{model}_{method}.yaml"):
        if (path := CONF / "tuned" / file).is_file():
            return dict(OmegaConf.load(path))
    return None


def _compose_bases(
    fixed: list[str], swept: dict[str, list[Any]]
) -> Iterator[tuple[Config, dict[str, list[Any]]]]:
    """Yield the configuration that has the grid, and what is swept over that grid.

    An experiment's grid may be another for each model, trainer and preset (conf/sourced_grid): one for each
    choice of those that are swept.

    Raises:
        InputError: a grid that is none, or a filter that matches nothing of it.
    """
    first = {axis: values[0] for axis, values in swept.items()}
    base = fill_in(compose_config([*fixed, *as_overrides(first)]), {})
    choosing = [axis for axis in CHOOSES_GRID if axis in swept and base.experiment.grid]
    for values in itertools.product(*(swept[axis] for axis in choosing)):
        choice = dict(zip(choosing, values, strict=True))
        own = fill_in(compose_config([*fixed, *as_overrides(first | choice)]), {}) if choice else base
        _check_grid(own, fixed)
        _check_filters(own)
        yield own, swept | {axis: [value] for axis, value in choice.items()}


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
    for override in map(parse_override, overrides):
        if override.is_discrete_sweep():
            swept[override.get_key_element()] = list(override.sweep_string_iterator())
        else:
            fixed.append(override.input_line or "")
    return fixed, swept


def _filters(config: Config) -> dict[str, list[Any]]:
    return {axis: values for axis, values in vars(config.only).items() if values}


def _filter_block(block: dict[str, Any], base: Config) -> dict[str, Any]:
    filtered = dict(block)
    for axis, wanted in _filters(base).items():
        if axis in block:
            filtered[axis] = [value for value in _list_values(block[axis]) if value in wanted]
    return filtered


def _list_values(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


def _check_grid(base: Config, fixed: list[str]) -> None:
    chosen = [override.partition("=")[2] for override in fixed if override.startswith("experiment=")]
    if not chosen or chosen[-1] == "null":
        return
    if base.experiment.name is None or not base.experiment.grid:
        raise InputError(
            f"experiment={chosen[-1]}: it has no experiment.name or no experiment.grid; allowed is a name "
            "and a list of blocks, each a product of axes"
        )
    axes = dict.fromkeys(axis for block in base.experiment.grid for axis in block)
    for axis in (name for name in axes if (CONF / name).is_dir()):
        for value in (v for block in base.experiment.grid for v in _list_values(block.get(axis, []))):
            allowed = f"one of {', '.join(choices(axis))}"
            require(isinstance(value, str | list), f"experiment.grid: {axis}", value, allowed)
    single = [axis for axis in axes if axis.startswith(("trainer.", "method.adapter."))]
    for axis in base.experiment.searched:
        allowed = ", ".join(single) or "nothing: the grid gives no trainer.… and no method.adapter.…"
        require(axis in single, "experiment.searched", axis, allowed)


def _check_filters(base: Config) -> None:
    for axis, wanted in _filters(base).items():
        offered: dict[Any, None] = {}
        for block in base.experiment.grid:
            offered |= dict.fromkeys(_list_values(block.get(axis, [])))
        missing = [value for value in wanted if value not in offered]
        if missing:
            shown = ", ".join(str(value) for value in offered) or "nothing: there is no such axis in the grid"
            raise InputError(f"only.{axis}={missing[0]}: allowed is {shown}")


def _results_name(base: Config, fixed: list[str], swept: dict[str, list[Any]]) -> str:
    """Name the results: the experiment, and whatever the command line put in the place of its own choices."""
    if base.experiment.name is None:
        return "sweep"
    chosen = {axis: [value] for axis, _, value in (override.partition("=") for override in fixed)} | swept
    replaced = {axis: chosen[axis] for axis in ("model", "trainer", "data", "preset") if axis in chosen}
    if not replaced:
        return base.experiment.name
    own = compose_config([override for override in fixed if override.partition("=")[0] not in replaced])
    own_names = {"model": own.model.name, "trainer": own.trainer.name}
    parts = [base.experiment.name]
    for axis, values in replaced.items():
        if axis == "data":
            parts += [value for value in values if value == "miniature" != own.data.name]
        elif values != [own_names.get(axis)]:
            parts += values
    return "-".join(parts)
