"""conf/ as Hydra composes it on the command line, each choice of files once in a process."""

from __future__ import annotations

import functools
import pickle
import re
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glue_harness.composition import enforce_schema
from glue_harness.errors import CONF

PLAIN_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
State = tuple[tuple[str, int, int], ...]
"""Every file of the searched folders: path, time of its last change in ns, size in bytes."""


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Compose conf/ as Hydra does on the command line; still unresolved.

    To find and merge files takes Hydra up to half a second. Which they are, only groups decide: single values
    are set afterwards, as Hydra does.

    Raises:
        InputError: a key that the schema does not know, or a value of the wrong type.
        HydraException: a name or key that does not exist.
    """
    parsed = [parse_override(override) for override in overrides]
    choosing = tuple(override.input_line or "" for override in parsed if not only_sets(override))
    kept = _keep_while(_read_state())
    if choosing not in kept:
        kept[choosing] = pickle.dumps(hydra.compose("config", list(choosing)))
    composed = pickle.loads(kept[choosing])
    try:
        for override in filter(only_sets, parsed):
            OmegaConf.update(composed, override.key_or_group, override.value(), merge=True)
    except OmegaConfBaseException:
        composed = hydra.compose("config", list(overrides))  # says in Hydra's words what is wrong
    # Hydra holds what it composes to the schema, except for what an override adds or removes.
    return enforce_schema(composed) if any(o.startswith(("+", "~")) for o in overrides) else composed


@functools.lru_cache(maxsize=4096)
def parse_override(override: str) -> Override:
    """Read an override as Hydra does on a command line.

    Raises:
        HydraException: it cannot be read.
    """
    (parsed,) = OverridesParser.create().parse_overrides([override])
    return parsed


def only_sets(override: Override) -> bool:
    """Say whether an override only sets a value: it chooses no file of conf/, adds or removes nothing."""
    is_plain = PLAIN_KEY.fullmatch((override.input_line or "").partition("=")[0]) is not None
    is_hydra = override.key_or_group.partition(".")[0] == "hydra"
    return is_plain and not is_hydra and not (CONF / override.key_or_group).is_dir()


@functools.lru_cache(maxsize=1)
def _keep_while(state: State) -> dict[tuple[str, ...], bytes]:
    """Return what is kept of compositions, by overrides, pickled: nothing once a file has changed."""
    return {}


def _read_state() -> State:
    places = GlobalHydra.instance().config_loader().get_search_path().get_path()
    folders = [Path(place.path.removeprefix("file://")) for place in places]
    files = [path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("*.yaml"))]
    stats = [(str(path), path.stat()) for path in files]
    return tuple((path, found.st_mtime_ns, found.st_size) for path, found in stats)
