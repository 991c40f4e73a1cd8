"""Files: written whole or not at all, summed, and read into checked types."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from glue_harness.errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there once it is safe on disk.

    Raises:
        InputError: the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); allowed is a writable folder"
        ) from error


def write_together(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write several files of one folder: only once all are safe on disk do they replace the earlier ones.

    Raises:
        InputError: the folder cannot be written; the earlier files are then as they were.
    """
    staged = {name: folder / f".{name}.{uuid.uuid4().hex}.staged" for name in contents}
    try:
        for name, content in contents.items():
            if (folder / name).is_dir():
                raise InputError(f"{folder / name}: is a folder; allowed is a file")
            write_atomically(staged[name], content)
        for name, path in staged.items():
            os.replace(path, folder / name)
    finally:
        for path in staged.values():
            path.unlink(missing_ok=True)


def sum_file(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_cache() -> Path:
    """Return the folder of what can be made again at any time: $XDG_CACHE_HOME/edora-glue, or in ~/.cache.

    Raises:
        RuntimeError: there is no home folder.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edora-glue"


def free_space(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or would be made."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(place).free


T = TypeVar("T")


class Strict(BaseModel):
    """What is read from disk: no field more or less, no NaN, and none that changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def explain_invalid(path: Path, error: ValidationError) -> InputError:
    """Return in one line the first of what is wrong with a file."""
    first = error.errors()[0]
    return InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}")


def read_yaml(path: Path, adapter: TypeAdapter[T]) -> T:
    """Return what a YAML file holds, as a type.

    Raises:
        InputError: it is no YAML, lacks a field, has an unknown one, or a value that cannot be.
    """
    try:
        return adapter.validate_python(yaml.safe_load(path.read_text()))
    except ValidationError as error:
        raise explain_invalid(path, error) from error
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable ({' '.join(str(error).split())})") from error
