"""Run one cell in a fresh child process, and always return: a child may fail or die, the sweep goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from glue_harness.config import Config, InputError
from glue_harness.records import Identity, write_atomically

PRELOADED = ("glue_harness.run", "edora")
"""Imported once by the fork server: a run then starts in a fraction of a second, with nothing left over."""

LOG_NAME = "run.log"


def supervise(config: Config, identity: Identity) -> tuple[str, str]:
    """Run in a child of the fork server; return how it ended and one line about it.

    A child that dies without a word (killed, out of memory) is a failed run, recorded as such.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_run_in_child, args=(config, identity, sender), daemon=False)
    child.start()
    sender.close()
    try:
        state, message = receiver.recv()
    except EOFError:
        state, message = "", ""
    finally:
        child.join()
    return (state, message) if state else _record_death(config, identity, child.exitcode)


def _run_in_child(config: Config, identity: Identity, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from glue_harness.run import record_failure, run_once

    try:
        folder = Path(config.runs_dir) / identity.folder
        _redirect_output(folder / LOG_NAME)
        ending = run_once(config, identity, show_progress=False)
        sender.send((ending.state, ending.message))
    except Exception as error:
        text = str(error) if isinstance(error, InputError) else traceback.format_exc()
        ending = record_failure(config, identity, text)
        sender.send((ending.state, ending.message))


def _record_death(config: Config, identity: Identity, exitcode: int | None) -> tuple[str, str]:
    from glue_harness.run import record_failure

    code = exitcode or 0
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    hint = "; out of memory is the usual reason" if code == -signal.SIGKILL else ""
    ending = record_failure(config, identity, f"the run's process died ({cause}{hint})")
    return ending.state, ending.message


def _redirect_output(path: Path) -> None:
    """Send what this process and its libraries print to the run's own log."""
    write_atomically(path, b"")
    log = path.open("a", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
