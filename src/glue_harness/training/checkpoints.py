"""A run's checkpoints on disk: put there whole and sealed, and gone on from only if they are what was sealed.

A seal is a file of SHA-256 sums, of all that a run goes on from: the checkpoint's files and the dev logits of
the epochs before it.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path

from glue_harness.io import sum_file

CHECKPOINTS = "checkpoints"
SEAL_NAME = "seal.json"


def put_in_place(partial: Path, folder: Path) -> None:
    """Seal the checkpoint that was written below `partial`, and have it take the place of earlier ones."""
    (written,) = partial.iterdir()
    (folder / "logits").mkdir(exist_ok=True)  # there are none within the first epoch
    seal = {"checkpoint": _sum_files(written), "logits": _sum_files(folder / "logits")}
    (written / SEAL_NAME).write_text(json.dumps(seal, indent=1))
    sync(written)
    sync(folder / "logits")
    final = folder / CHECKPOINTS
    before = list(final.glob("checkpoint-*"))
    final.mkdir(parents=True, exist_ok=True)
    written.replace(final / written.name)
    _sync_entry(final)
    for old in before:
        shutil.rmtree(old)
    shutil.rmtree(partial)


def find_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint in a run's folder that is what was sealed; remove all that are not.

    One that is damaged costs a warning that names it: the run goes on from the one before, or from the start.
    """
    drop_partial(folder)
    checkpoints = sorted((folder / CHECKPOINTS).glob("checkpoint-*"), key=_step, reverse=True)
    for checkpoint in checkpoints:
        if (damage := _find_damage(checkpoint, folder)) is None:
            return str(checkpoint)
        shutil.rmtree(checkpoint)
        warnings.warn(
            f"{checkpoint} is damaged ({damage}); it is removed, and the run goes on from before it.",
            stacklevel=2,
        )
    return None


def partial_folder(folder: Path) -> Path:
    """Return where a checkpoint is written before it is whole."""
    return folder / f"{CHECKPOINTS}.partial"


def drop_partial(folder: Path) -> None:
    """Remove what is left of a checkpoint that was never finished."""
    shutil.rmtree(partial_folder(folder), ignore_errors=True)


def sync(folder: Path) -> None:
    """Wait until all files below a folder, and their names, are safe on disk."""
    for path in [folder, *folder.rglob("*")]:
        _sync_entry(path)


def _find_damage(checkpoint: Path, folder: Path) -> str | None:
    """Say what is wrong with a checkpoint, or None."""
    try:
        seal = json.loads((checkpoint / SEAL_NAME).read_bytes())
        expected = {checkpoint / name: value for name, value in seal["checkpoint"].items()}
        expected |= {folder / "logits" / name: value for name, value in seal["logits"].items()}
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return f"{SEAL_NAME} cannot be read"
    for path, value in expected.items():
        try:
            same = sum_file(path) == value
        except OSError as error:
            return f"{path.name}: {error.strerror}"
        if not same:
            return f"{path.name} is not what was written"
    return None


def _sum_files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sum_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def _sync_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
