"""Tensors on disk, by the name of what they were computed from; a file each, safe with many processes.

The folder is $EDORA_CACHE, else edora/ in $XDG_CACHE_HOME or ~/.cache; EDORA_CACHE=off has none. It holds
nothing that cannot be computed again, and may be deleted at any time. A file is in the format of safetensors;
its metadata hold a SHA-256 of its name and content.
"""

import hashlib
import os
import uuid
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

CHECKSUM = "sha256"
"""The key of the checksum in a file's metadata."""

OFF = "off"
"""The value of EDORA_CACHE that has nothing read and nothing written."""


def find_folder() -> Path:
    """Say where the cache lies, whether or not it exists.

    Raises: RuntimeError if it depends on a home folder and there is none.
    """
    chosen = os.environ.get("EDORA_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edora"


def read_tensors(key: str, kind: str = "svd") -> dict[str, Tensor] | None:
    """Read what was written under this key: None if there is nothing, or if it cannot be trusted.

    Keys of one kind have a folder of their own. The tensors are memory-mapped: processes that read the same
    file share its pages, until they write to them. A file whose checksum does not fit its name and content is
    damaged: it is removed, with a warning.
    """
    if _is_off():
        return None
    try:
        path = _find_file(key, kind)
        path.open("rb").close()  # safetensors has one error of its own for all that can go wrong
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:
        _warn_once("read", _give_reason(error))
        return None
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            checksum = (file.metadata() or {}).get(CHECKSUM)
    except (SafetensorError, OSError):
        tensors, checksum = {}, None
    if checksum == _compute_checksum(key, tensors):
        return tensors
    warnings.warn(f"{path} is damaged; it is removed, and its content computed again.", stacklevel=2)
    _remove(path)
    return None


def write_tensors(
    key: str, tensors: dict[str, Tensor], kind: str = "svd", keeps_earlier: bool = False
) -> None:
    """Write contiguous tensors under a key; a full or unwritable folder costs a warning, never the run.

    Written beside its place, synced and moved, so that no process ever reads half a file. A file that is
    there is replaced, unless `keeps_earlier`: what others have mapped must not go from under them, and on a
    network's file system it would.
    """
    if _is_off():
        return
    content = save(tensors, metadata={CHECKSUM: _compute_checksum(key, tensors)})
    partial = None
    try:
        path = _find_file(key, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        with open(partial, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _put(partial, path, keeps_earlier)
    except (OSError, RuntimeError) as error:
        _warn_once("written", _give_reason(error))
    finally:
        if partial is not None:
            _remove(partial)


def _put(partial: Path, path: Path, keeps_earlier: bool) -> None:
    """Give a file its name; with `keeps_earlier`, only if no other has it."""
    if not keeps_earlier:
        os.replace(partial, path)
        return
    try:
        with suppress(FileExistsError):
            os.link(partial, path)
    except OSError:  # a file system without hard links
        os.replace(partial, path)


def _is_off() -> bool:
    return os.environ.get("EDORA_CACHE") == OFF


def _find_file(key: str, kind: str) -> Path:
    return find_folder() / kind / f"{key}.safetensors"


def _compute_checksum(key: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(key.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _warn_once("cleared", _give_reason(error))


def _give_reason(error: Exception) -> str:
    if isinstance(error, OSError):  # without the name of one file, since there are many
        return f"{find_folder()}: {error.strerror or type(error).__name__}"
    return str(error)


@cache
def _warn_once(action: str, reason: str) -> None:
    warnings.warn(f"The cache of edora cannot be {action} ({reason}); going on without it.", stacklevel=3)
