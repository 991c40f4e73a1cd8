"""conf/ as Hydra composes it on the command line, each choice of files once for all processes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pickle
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.config_search_path import SearchPathElement
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glue_harness.config import schema as config
from glue_harness.config.validation import enforce_schema
from glue_harness.errors import CONF, InputError
from glue_harness.io import find_cache, write_atomically

PLAIN_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
CACHED_SECONDS = 7 * 24 * 3600
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
    state = _read_state()
    kept = _keep_while(state)
    if choosing not in kept:
        kept[choosing] = _read_cached(state, choosing) or _compose_and_cache(state, choosing)
    composed: DictConfig = pickle.loads(kept[choosing])
    return composed


def _read_cached(state: State, choosing: tuple[str, ...]) -> bytes | None:
    """Return what a process has cached of this composition; None if nothing, or if it cannot be read."""
    try:
        content = _find_cached(state, choosing).read_bytes()
        pickle.loads(content)
    except Exception:  # whatever a damaged file raises
        return None
    return content


def _compose_and_cache(state: State, choosing: tuple[str, ...]) -> bytes:
    """Compose with Hydra and cache the result, if the cache can be written."""
    content = pickle.dumps(hydra.compose("config", list(choosing)))
    with contextlib.suppress(InputError, OSError, RuntimeError):
        path = _find_cached(state, choosing)
        if not path.parent.exists() and path.parent.parent.exists():
            _remove_old(path.parent.parent)
        write_atomically(path, content)
    return content


def _find_cached(state: State, choosing: tuple[str, ...]) -> Path:
    name = hashlib.sha256(repr(choosing).encode()).hexdigest()[:16]
    return find_cache() / "compositions" / _digest_inputs(state) / f"{name}.pickle"


@functools.lru_cache(maxsize=4)
def _digest_inputs(state: State) -> str:
    """Return a digest of all that a composition follows from: files, schema, packages."""
    digest = hashlib.sha256()
    roots = [Path(place.path.removeprefix("file://")) for place in _list_places()]
    for name, _, _ in state:
        path = Path(name)
        root = next(root for root in roots if path.is_relative_to(root))
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    digest.update(Path(config.__file__).read_bytes())
    packages = sorted(
        (found.name, found.version)
        for found in importlib.metadata.distributions()
        if found.name.startswith(("hydra", "omegaconf", "edora"))
    )
    digest.update(f"{packages} {sys.version}".encode())
    return digest.hexdigest()[:16]


def _remove_old(folder: Path) -> None:
    """Remove what has been cached of files that have changed since, once it is a week old."""
    for old in folder.iterdir():
        if time.time() - old.stat().st_mtime > CACHED_SECONDS:
            shutil.rmtree(old, ignore_errors=True)


@functools.lru_cache(maxsize=1)
def _keep_while(state: State) -> dict[tuple[str, ...], bytes]:
    """Return what is kept of compositions, by overrides, pickled: nothing once a file has changed."""
    return {}


def _list_places() -> Sequence[SearchPathElement]:
    """Return where Hydra searches for files: folders, and packages that have none of ours."""
    found: Sequence[SearchPathElement] = GlobalHydra.instance().config_loader().get_search_path().get_path()
    return found


def _read_state() -> State:
    state = []
    for place in _list_places():
        for folder, _, names in os.walk(place.path.removeprefix("file://"), followlinks=True):
            for path in (os.path.join(folder, name) for name in names if name.endswith(".yaml")):
                with contextlib.suppress(FileNotFoundError):  # a link to nowhere, or gone by now
                    found = os.stat(path)
                    state.append((path, found.st_mtime_ns, found.st_size))
    return tuple(sorted(state))
