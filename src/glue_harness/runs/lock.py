"""Who is at a run: a lock on its folder, and in the lock file a line for every attempt ever begun."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from glue_harness.errors import InputError

LOCK_NAME = ".lock"
LONGEST_PAUSE_SECONDS = 0.01
PROBE_BYTES = 2**20


@contextlib.contextmanager
def own_run(folder: Path) -> Iterator[bool]:
    """Own a run's folder while inside, if no other process does: yields whether it is ours.

    The kernel frees the lock when its owner dies, however it dies.

    Raises:
        InputError: the folder cannot be written, or its file system has no locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_NAME).open("a+")
    except OSError as error:
        raise _unwritable(folder, error) from error
    with lock:
        yield _own(lock)


def is_owned(folder: Path) -> bool:
    """Say whether a process owns a run's folder, without keeping one from it that wants to.

    Looking is a shared lock, for an instant. Owners exclude it; `own_run` knows it from an owner and waits.
    """
    try:
        lock = (folder / LOCK_NAME).open("rb")
    except OSError:  # no lock file, or not ours to look at
        return False
    with lock:
        return not _try_lock(lock, fcntl.LOCK_SH)


def check_writable(runs_dir: Path) -> None:
    """Write something below runs_dir and take it away again.

    Raises:
        InputError: it cannot be written, or is full.
    """
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs_dir) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise _unwritable(runs_dir, error) from error


def begin_attempt(folder: Path) -> int:
    """Note down that the owner of a folder begins an attempt at its run; return how many there have been.

    Raises:
        InputError: the folder cannot be written.
    """
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        with (folder / LOCK_NAME).open("a") as lock:
            lock.write(f"{when} {socket.gethostname()} {os.getpid()}\n")
    except OSError as error:
        raise _unwritable(folder, error) from error
    return count_attempts(folder)


def count_attempts(folder: Path) -> int:
    """Return how many attempts at a folder's run have been begun, those included that were interrupted."""
    try:
        return len((folder / LOCK_NAME).read_text().splitlines())
    except FileNotFoundError:
        return 0


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"runs_dir: {folder} cannot be written ({error.strerror}); allowed is a writable folder"
    )


def _own(lock: IO) -> bool:
    """Take the lock, unless another process owns it."""
    while not _try_lock(lock, fcntl.LOCK_EX):
        if not _try_lock(lock, fcntl.LOCK_SH):
            return False
        # Whoever has it shares it, so is looking, as we are ourselves now.
        fcntl.flock(lock, fcntl.LOCK_UN)
        time.sleep(random.uniform(0.0, LONGEST_PAUSE_SECONDS))
    return True


def _try_lock(lock: IO, mode: int) -> bool:
    try:
        fcntl.flock(lock, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InputError(
            f"runs_dir: {lock.name} cannot be locked ({error.strerror}); allowed is a file system with locks"
        ) from error
    return True
