"""Run one cell in a fresh child process, and always return: a child may fail or die, the sweep goes on."""

from __future__ import annotations

import contextlib
import functools
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path

from glue_harness.config.schema import Config
from glue_harness.errors import InputError
from glue_harness.hardware import SLURM_JOB, take_gpu
from glue_harness.runs.identity import Identity
from glue_harness.runs.index import look_for
from glue_harness.runs.lock import is_owned
from glue_harness.runs.outcome import End, Ending, describe_owned, find_ending

PRELOADED = ("glue_harness.training.run", "edora")
"""Imported once by the fork server: a run then starts in a fraction of a second, with nothing left over."""

ANNOUNCEMENTS = {signal.SIGUSR1, signal.SIGUSR2}
PREEMPTION = {signal.SIGTERM}
"""By these SLURM tells all processes of a job that it ends: what follows is submitit's to decide and SLURM's
to enforce. A run would die of it, and its job end as if all were well, not to be queued again."""

INTERRUPT = {signal.SIGINT}
"""Ctrl-C goes to all processes of a command; a fork server that is importing would print a traceback."""

LOG_NAME = "run.log"
SWEEPER_PID = "GLUE_HARNESS_SWEEPER_PID"
"""The environment variable by which a launcher's worker on the same machine knows whose worker it is."""


def supervise(config: Config, identity: Identity) -> Ending:
    """Run in a child of the fork server; return how it ended.

    A child that dies without a word (killed, out of memory) is a failed run, recorded as such; one that was
    interrupted is not: the same command goes on with it. Nobody outlives the sweep: the child dies with this
    process, and this process, where it is a worker, with its sweeper.
    """
    if (known := _look_around(Path(config.runs_dir) / identity.folder, identity)) is not None:
        return known
    _watch_sweeper()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_run_in_child, args=(config, identity, sender), daemon=False)
    resource_tracker.ensure_running()  # started below, it would unblock SIGINT and SIGTERM
    with _without(ANNOUNCEMENTS | INTERRUPT | (PREEMPTION if SLURM_JOB in os.environ else set())):
        child.start()
    sender.close()
    try:
        ending: Ending | None = receiver.recv()
    except EOFError:
        ending = None
    except BaseException:  # this process is told to end, by a signal that the child may not have had
        child.kill()
        raise
    finally:
        child.join()
    return ending or _record_death(config, identity, child.exitcode)


def _look_around(folder: Path, identity: Identity) -> Ending | None:
    """Return that the run has ended well, or that another process is at it, if so.

    A machine of another kind has the run in another folder.
    """
    if (ended := find_ending(folder)) is not None:
        return ended
    if is_owned(folder):
        return describe_owned(folder)
    key = identity.cell_hash, identity.seed
    inventory = look_for(key, folder.parent.parent)
    for found in inventory.find(key):
        if (ended := find_ending(found.folder)) is not None:
            return ended
    running = inventory.running.get(key)
    return None if running is None else describe_owned(running.folder)


@contextlib.contextmanager
def _without(signals: set[signal.Signals]) -> Iterator[None]:
    """Keep what is started inside, and all that it starts, from ever getting these signals."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@functools.cache
def _watch_sweeper() -> None:
    if os.environ.get(SWEEPER_PID) == str(os.getppid()):
        threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()


def _die_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _die_with_supervisor() -> None:
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None
    wait([supervisor.sentinel])
    os._exit(1)


def _run_in_child(config: Config, identity: Identity, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPT)
    threading.Thread(target=_die_with_supervisor, daemon=True).start()
    from glue_harness.training.run import run_once

    gc.freeze()  # else collections look through all that the fork server imported: half a second a run
    try:
        with contextlib.suppress(OSError):  # a folder that cannot be written is run_once's to report
            _redirect_output(Path(config.runs_dir) / identity.folder / LOG_NAME)
        with take_gpu(config.launcher.runs_per_gpu):
            ending = run_once(config, identity, show_progress=False)
        sender.send(ending)
    except Exception as error:
        text = str(error) if isinstance(error, InputError) else traceback.format_exc()
        sender.send(_record(config, identity, text))


def _record_death(config: Config, identity: Identity, exitcode: int | None) -> Ending:
    code = exitcode or 0
    if code in (-signal.SIGINT, -signal.SIGTERM):
        folder = Path(config.runs_dir) / identity.folder
        return Ending(End.INTERRUPTED, f"{folder} goes on from its last checkpoint", folder)
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    died = f"the run's process died ({cause})"
    if code == -signal.SIGKILL:
        died = (
            f"the run's process died ({cause}; out of memory is the usual reason): if it was, lower "
            "trainer.device_batch_size, the global batch stays"
        )
    return _record(config, identity, died)


def _record(config: Config, identity: Identity, error: str) -> Ending:
    """Record a failure; where even that cannot be written, it is a failure all the same."""
    from glue_harness.training.run import record_failure

    try:
        return record_failure(config, identity, error)
    except InputError as unwritable:
        return Ending(End.FAILED, str(unwritable))


def _redirect_output(path: Path) -> None:
    """Send what this process and its libraries print to the run's own log, after earlier attempts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = path.open("a", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
