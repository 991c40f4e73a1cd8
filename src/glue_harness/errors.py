"""Errors of input: one line that names field, value and what is allowed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

CONF = (Path(__file__).parent / "conf").resolve()
"""conf/ of the checkout, or what the wheel has of it."""

LAUNCHERS = {
    "joblib": ("joblib", "make setup"),
    "ray": ("ray", "make setup-ray"),
    "submitit_slurm": ("slurm", "make setup"),
}
"""Hydra's name of a launcher -> ours, and what installs its package."""


GRID = "allowed is a list of blocks, each a mapping of axes to values, such as [{task: [rte], seed: [1, 2]}]"
"""What an experiment's grid may be."""


class InputError(ValueError):
    """Input that cannot be used; the message is one line: field, value, what is allowed."""


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise an InputError that names field, value and what is allowed, unless `condition` holds."""
    if not condition:
        raise InputError(f"{name}={value}: allowed is {allowed}")


def require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise an InputError unless `value` is one of `allowed`."""
    require(value in allowed, name, value, "one of " + ", ".join(allowed))


def choices(group: str) -> list[str]:
    """Return the names one can choose in a group of conf/, sorted."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into an InputError of one line."""
    try:
        yield
    except (OmegaConfBaseException, HydraException) as error:
        raise InputError(explain(error)) from error


def explain(error: Exception) -> str:
    """Say in one line what a Hydra or OmegaConf error means: field, value, what is allowed."""
    chain: list[BaseException] = [error]
    while (following := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(following)
    for link in chain:
        if isinstance(link, InputError):
            return str(link)
        if isinstance(link, MissingConfigException):
            return _explain_missing(link)
        if isinstance(link, ConfigKeyError | ConfigAttributeError):
            return _explain_key(link)
        if isinstance(link, ValidationError):
            return _explain_value(link)
    text = " ".join(str(error).split())
    return f"{text}; {GRID}" if "override experiment.grid=" in text else text


def _explain_value(error: ValidationError) -> str:
    key, reason = _full_key(error), str(error).partition("\n")[0]
    if key.isdecimal():  # OmegaConf loses the name of the list that a value stands in; the schema has one
        key = f"experiment.grid[{key}]"
    return f"{key}: {reason}" + (f"; {GRID}" if key.startswith("experiment.grid") else "")


def _full_key(error: OmegaConfBaseException) -> str:
    match = re.search(r"full_key: (\S+)", str(error))
    return (match.group(1) if match else error.full_key or str(error.key or "")).lstrip("+")


def _explain_missing(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if group in {path.name for path in CONF.iterdir() if path.is_dir()}:
        return f"{group}={name}: allowed is one of {', '.join(choices(group))}"
    if group == "hydra/launcher" and name in LAUNCHERS:
        launcher, remedy = LAUNCHERS[name]
        return f"launcher={launcher}: its package is not installed; `{remedy}` installs it"
    if group.startswith("preset/"):
        preset = group.partition("/")[2]
        return f"preset={preset}: has nothing for {name}; allowed is {_list_preset(preset)}"
    return " ".join(str(error).split())


def _list_preset(preset: str) -> str:
    """Say for which <model>_<method> and tasks a preset has values."""
    tasks: dict[str, list[str]] = {}
    for name in choices(f"preset/{preset}"):
        run, _, task = name.rpartition("_")
        tasks.setdefault(run, []).append(task)
    return ", ".join(f"{run} ({' '.join(names)})" for run, names in tasks.items())


def _explain_key(error: ConfigKeyError | ConfigAttributeError) -> str:
    parent = error.parent_node
    names = sorted(str(name) for name in parent) if isinstance(parent, DictConfig) else []
    known_here = [name for name in names if name != error.key]
    return f"{_full_key(error)}: there is no such key" + (
        f"; known: {', '.join(known_here)}" if known_here else ""
    )
