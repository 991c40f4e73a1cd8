"""conf/ as Hydra composes it on the command line, each choice of files once in a process."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import re
from collections.abc import Sequence

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glue_harness.errors import CONF
from glue_harness.resolution import enforce_schema

PLAIN_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
State = tuple[tuple[str, int, int], ...]
"""Every file of the searched folders: path, time of its last change in ns, size in bytes."""


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Compose conf/ as Hydra does on the command line; still unresolved.

    To find and merge files takes Hydra up to half a second. Which they are, only groups decide: single values
    are set afterwards, as Hydra does. What adds, removes or is Hydra's own is composed as a whole.

    Raises:
        InputError: a key that the schema does not know, or a value of the wrong type.
        HydraException: a name or key that does not exist.
    """
    parsed = [parse_override(override) for override in overrides]
    if not all(only_sets(override) or only_chooses(override) for override in parsed):
        composed = hydra.compose("config", list(overrides))
        # Hydra holds what it composes to the schema, except for what an override adds or removes.
        return enforce_schema(composed) if any(o.startswith(("+", "~")) for o in overrides) else composed
    composed = _compose_files(tuple(o.input_line or "" for o in parsed if only_chooses(o)))
    try:
        for override in filter(only_sets, parsed):
            OmegaConf.update(composed, override.key_or_group, override.value(), merge=True)
    except OmegaConfBaseException:
        return hydra.compose("config", list(overrides))  # says in Hydra's words what is wrong
    return composed


@functools.lru_cache(maxsize=4096)
def parse_override(override: str) -> Override:
    """Read an override as Hydra does on a command line.

    Raises:
        HydraException: it cannot be read.
    """
    (parsed,) = OverridesParser.create().parse_overrides([override])
    return parsed


def only_sets(override: Override) -> bool:
    """Say whether an override only sets one value: it chooses no file of conf/, adds or removes nothing."""
    is_plain = PLAIN_KEY.fullmatch((override.input_line or "").partition("=")[0]) is not None
    is_ours = override.key_or_group.partition(".")[0] != "hydra" and not _is_group(override)
    return is_plain and is_ours and not override.is_sweep_override()


def only_chooses(override: Override) -> bool:
    """Say whether an override only chooses a file of a group of conf/, or none."""
    is_choice = override.type is OverrideType.CHANGE and not override.is_sweep_override()
    return is_choice and _is_group(override) and isinstance(override.value(), str | None)


def _is_group(override: Override) -> bool:
    return (CONF / override.key_or_group).is_dir()


def _compose_files(choosing: tuple[str, ...]) -> DictConfig:
    """Return what Hydra composes of these choices, for the caller to change."""
    kept = _keep_while(_read_state())
    if choosing not in kept:
        kept[choosing] = pickle.dumps(hydra.compose("config", list(choosing)))
    composed: DictConfig = pickle.loads(kept[choosing])
    return composed


@functools.lru_cache(maxsize=1)
def _keep_while(state: State) -> dict[tuple[str, ...], bytes]:
    """Return what is kept of compositions, by overrides, pickled: nothing once a file has changed."""
    return {}


def _read_state() -> State:
    places = GlobalHydra.instance().config_loader().get_search_path().get_path()
    state = []
    for place in places:
        for folder, _, names in os.walk(place.path.removeprefix("file://"), followlinks=True):
            for path in (os.path.join(folder, name) for name in names if name.endswith(".yaml")):
                with contextlib.suppress(FileNotFoundError):  # a link to nowhere, or gone by now
                    found = os.stat(path)
                    state.append((path, found.st_mtime_ns, found.st_size))
    return tuple(sorted(state))
