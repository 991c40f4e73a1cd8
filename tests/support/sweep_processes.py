"""Sweeps as a user starts them, for tests: real processes, and what they leave below runs/."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from glue_harness.runs.index import take_inventory
from glue_harness.runs.record import RECORD_NAME, Status, read_record
from glue_harness.sweeps.plan import plan

ROOT = Path(__file__).parents[2]
TINY = ["model=tiny_roberta", "data=miniature", "trainer=smoke", "rank=4"]


def environment(**variables):
    """Return the environment that a harness in this tree needs."""
    own = {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return os.environ | own | variables


def start_sweep(*arguments, **variables):
    """Start a sweep as the leader of a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "glue_harness", "train", "-m", *arguments],
        env=environment(**variables),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(sweep, seconds=1200):
    """Wait for a sweep; return its exit code and what it said."""
    _, errors = sweep.communicate(timeout=seconds)
    return sweep.returncode, errors


def run_sweep(*arguments, **variables):
    """Run a sweep that has to end well; return what it said."""
    code, errors = finish(start_sweep(*arguments, **variables))
    assert code == 0, errors
    return errors


def wait_for(condition, seconds=900.0):
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def find_records(runs_dir):
    """Return the paths of all records below a folder."""
    return list(Path(runs_dir).rglob(RECORD_NAME))


def is_training(runs_dir):
    """Say whether a run of the tiny model is between its first step and its last."""
    return bool(take_inventory(Path(runs_dir), ["tiny_roberta"]).running)


def has_fork_server(session):
    """Say whether a fork server has been started in a session, be it only about to import."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # a process that has just ended
            is_one = b"multiprocessing.forkserver" in command.read_bytes()
            if is_one and os.getsid(int(command.parent.name)) == session:
                return True
    return False


def read_finished(runs_dir):
    """Return by folder what every record says, as bytes: none of these may ever change."""
    return {path.parent: path.read_bytes() for path in find_records(runs_dir)}


def read_attempts(arguments, runs_dir):
    """Return how often each planned run was begun; all must be complete."""
    records = [cell.record() for cell in plan([*arguments, f"runs_dir={runs_dir}"]).cells]
    assert all(record is not None and record.status is Status.COMPLETE for record in records)
    return [record.attempts for record in records]


def read_results(arguments, runs_dir):
    """Return every planned run's scores and the bytes of its dev logits; all must be complete."""
    results = {}
    for cell in plan([*arguments, f"runs_dir={runs_dir}"]).cells:
        record = read_record(cell.folder)
        assert record is not None, cell.folder
        assert record.status is Status.COMPLETE, record.error
        logits = {path.name: path.read_bytes() for path in (cell.folder / "logits").iterdir()}
        results[cell.key] = record.epochs, logits
    return results
