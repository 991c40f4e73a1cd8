"""A sweep may be killed at any time and started by anybody: nothing is run twice, nothing is lost."""

import os
import signal
import subprocess
import time

import pytest

from glue_harness.runs.lock import is_owned
from tests.support.sweep_processes import (
    TINY,
    find_records,
    finish,
    has_fork_server,
    is_training,
    read_attempts,
    read_finished,
    read_results,
    run_sweep,
    start_sweep,
    wait_for,
)


def share_a_grid(arguments, runs_dir, launchers):
    """Run sweeps over one grid at once; every run must be complete, and begun once."""
    sweeps = [start_sweep(*arguments, f"runs_dir={runs_dir}", f"launcher={name}") for name in launchers]
    for code, errors in [finish(sweep) for sweep in sweeps]:
        assert code == 0, errors
    assert set(read_attempts(arguments, runs_dir)) == {1}


def test_two_sweeps_at_once_share_a_grid_and_run_nothing_twice(tmp_path):
    share_a_grid([*TINY, "method=full,lora", "task=sst2", "seed=1,2"], tmp_path, ["basic", "basic"])


def interrupt_all(sweep):
    os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does, to every process of the command


@pytest.mark.parametrize("launcher", ["joblib", "basic"])
@pytest.mark.parametrize("end", [interrupt_all, subprocess.Popen.terminate])
def test_ctrl_c_or_a_kill_of_the_command_alone_ends_a_sweep_within_seconds(tmp_path, end, launcher):
    """It says how to go on, and no run outlives it, even where the runs' own processes get no signal."""
    grid = [*TINY, "trainer=fast", "trainer.epochs=1000", "method=full", "task=sst2", "seed=1,2"]
    sweep = start_sweep(*grid, f"runs_dir={tmp_path}", f"launcher={launcher}")
    wait_for(lambda: is_training(tmp_path))
    began = time.monotonic()
    end(sweep)
    code, errors = finish(sweep, seconds=60)
    assert time.monotonic() - began < 15
    assert code == 130, errors
    assert errors.splitlines()[-1] == "interrupted; the same command goes on from here"
    assert "Traceback" not in errors
    assert not find_records(tmp_path)  # an interrupted run has not failed
    wait_for(lambda: not any(is_owned(lock.parent) for lock in tmp_path.rglob(".lock")), seconds=15)


def test_ctrl_c_while_runs_are_being_prepared_is_no_traceback(tmp_path):
    """The fork server imports for seconds before there is anything to interrupt."""
    sweep = start_sweep(*TINY, "method=full", "task=sst2", "seed=1,2", f"runs_dir={tmp_path}")
    wait_for(lambda: has_fork_server(sweep.pid))
    time.sleep(0.5)
    os.killpg(sweep.pid, signal.SIGINT)
    code, errors = finish(sweep, seconds=60)
    assert code == 130, errors
    assert "Traceback" not in errors
    assert not find_records(tmp_path)


@pytest.mark.slow
def test_three_sweeps_at_once_share_a_larger_grid(tmp_path):
    grid = [*TINY, "method=full,lora,edora", "task=sst2,rte", "seed=1,2"]
    share_a_grid(grid, tmp_path, ["joblib", "joblib", "basic"])


@pytest.mark.slow
def test_a_sweep_killed_three_times_ends_as_if_it_never_was(tmp_path):
    """SIGKILL to the process group, while runs train; the interrupted ones go on, the finished ones stay."""
    grid = [*TINY, "trainer=fast", "trainer.epochs=3", "method=full,edora", "task=sst2,stsb", "seed=1,2"]
    killed = tmp_path / "killed"
    for kill in range(3):
        before = read_finished(killed)
        sweep = start_sweep(*grid, f"runs_dir={killed}")
        wait_for(lambda: len(find_records(killed)) >= len(before) + 1 and is_training(killed))  # noqa: B023
        os.killpg(sweep.pid, signal.SIGKILL)
        sweep.communicate()
        assert len(find_records(killed)) < 8, f"kill {kill + 1} came after the end"
        assert before.items() <= read_finished(killed).items()
    before = read_finished(killed)
    said = run_sweep(*grid, f"runs_dir={killed}")
    assert f"8 runs, {len(before)} done, {8 - len(before)} to do" in said
    assert before.items() <= read_finished(killed).items()
    attempts = read_attempts(grid, killed)
    assert max(attempts) <= 4
    assert sum(attempts) > 8  # a kill met a run that had begun
    run_sweep(*grid, f"runs_dir={tmp_path / 'whole'}")
    assert read_results(grid, killed) == read_results(grid, tmp_path / "whole")
