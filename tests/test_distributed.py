"""Processes that share a run, as torchrun starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from glue_harness.distributed import agree, count_processes, is_first, process_rank, refuse_sweep
from glue_harness.errors import InputError
from glue_harness.runs.progress import PROGRESS_NAME
from glue_harness.runs.record import Status, read_record
from glue_harness.training.checkpoints import CHECKPOINTS
from tests.support.shared_fits import CASES, SMALL, fit_case
from tests.support.sweep_processes import ROOT, environment, wait_for

WORKER = str(Path(__file__).parents[0] / "support" / "shared_fits.py")
HARNESS = ["-m", "glue_harness"]
TRAIN = [*HARNESS, "train"]
SECONDS_TO_END = 60


def start(*arguments, number=2):
    """Start processes that share a run; their output is kept together."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={number}", "--standalone"]
    return subprocess.Popen(
        [*torchrun, *arguments],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*arguments, number=2):
    """Run processes that share a run, to the end; return torchrun's exit code and what they said."""
    started = start(*arguments, number=number)
    output, _ = started.communicate(timeout=600)
    return started.returncode, output


def check_equal(shared, alone):
    """Compare what two and one process made of a case.

    Weights are held against how far all of them moved: Adam divides a gradient by its own size, so that where
    a gradient is next to nothing the rounding of its sum shows in full.
    """
    assert set(shared) == set(alone)
    assert shared["examples_seen"] == alone["examples_seen"]
    for name in shared:
        if name.startswith("logits"):
            assert np.isfinite(shared[name]).all()
            np.testing.assert_allclose(shared[name], alone[name], rtol=0, atol=1e-6)
    np.testing.assert_allclose(shared["losses"], alone["losses"], rtol=1e-6)
    np.testing.assert_allclose(shared["gradient_norms"], alone["gradient_norms"], rtol=1e-5)
    weights = [name for name in shared if name.startswith("trained ")]
    apart = np.concatenate([(shared[name] - alone[name].astype(np.float64)).ravel() for name in weights])
    size = np.concatenate([alone[name].ravel() for name in weights])
    assert np.linalg.norm(apart) < 1e-6 * np.linalg.norm(size)
    moved = np.concatenate([alone[name].ravel() for name in alone if name.startswith("moved ")])
    assert np.linalg.norm(moved) > 1e-3 * np.linalg.norm(size)


QUICK = ["ragged", "one row", "accumulated"]


def fit_together(cases, folder):
    """Have two processes fit cases; return the results that they left, by case."""
    code, output = run(WORKER, str(folder), *cases)
    assert code == 0, output
    return {case: np.load(folder / case / "result.npz") for case in cases}


@pytest.mark.parametrize(
    "cases",
    [QUICK, pytest.param([c for c in CASES if c not in QUICK], marks=pytest.mark.slow)],
    ids=["", "all"],
)
def test_two_processes_end_where_one_does(tmp_path, cases):
    for case, shared in fit_together(cases, tmp_path / "shared").items():
        fit_case(case, tmp_path / "alone" / case)
        check_equal(shared, np.load(tmp_path / "alone" / case / "result.npz"))


def run_folder(runs_dir):
    """Return the folder of the one run below runs_dir, or None before it has begun."""
    return next((path.parent for path in runs_dir.rglob("config.yaml")), None)


def has_logits(runs_dir, epoch):
    folder = run_folder(runs_dir)
    return folder is not None and (folder / "logits" / f"epoch_{epoch}.npy").is_file()


def find_epoch(checkpoint):
    """Return how many epochs a checkpoint stands after, or None while it goes away."""
    try:
        return json.loads((checkpoint / "trainer_state.json").read_text())["epoch"]
    except OSError:
        return None


def has_checkpoint_within_an_epoch(runs_dir, after):
    found = (find_epoch(path) for path in runs_dir.rglob(f"{CHECKPOINTS}/checkpoint-*"))
    return any(epoch > after and epoch % 1 for epoch in found if epoch is not None)


@pytest.mark.slow
def test_killed_processes_go_on_to_the_same_bits(tmp_path):
    """Three, since the sum of two has only one order, and with dropout, which each draws for itself."""
    arguments = [*TRAIN, *SMALL, "method=edora", "trainer.epochs=6"]
    code, output = run(*arguments, f"runs_dir={tmp_path / 'whole'}", number=3)
    assert code == 0, output
    for minutes in (10, 0):  # a checkpoint at the end of an epoch, and at every step
        killed = [*arguments, f"checkpoint_minutes={minutes}", f"runs_dir={tmp_path / f'killed_{minutes}'}"]
        kill_one_of_three(killed, tmp_path / f"killed_{minutes}", within_an_epoch=minutes == 0)
        code, output = run(*killed, number=3)
        assert code == 0, output
        assert output.count("complete: ") == 1
        check_resumed(run_folder(tmp_path / f"killed_{minutes}"), run_folder(tmp_path / "whole"))


def kill_one_of_three(arguments, runs_dir, within_an_epoch):
    """Begin a run of three processes and kill the first of them; all end, and leave a checkpoint of all."""
    killed = start(*arguments, number=3)
    wait_for(lambda: has_logits(runs_dir, 3))
    if within_an_epoch:
        wait_for(lambda: has_checkpoint_within_an_epoch(runs_dir, after=3))
    folder = run_folder(runs_dir)
    os.kill(json.loads((folder / PROGRESS_NAME).read_text())["pid"], signal.SIGKILL)
    killed.communicate(timeout=SECONDS_TO_END)
    assert killed.returncode != 0
    assert read_record(folder) is None
    checkpoint = max((folder / CHECKPOINTS).iterdir(), key=find_epoch)
    states = [
        torch.load(checkpoint / f"rng_state_{rank}.pth", weights_only=False)["cpu"] for rank in range(3)
    ]
    assert len({state.numpy().tobytes() for state in states}) == 3


def check_resumed(folder, undisturbed):
    whole, resumed = read_record(undisturbed), read_record(folder)
    assert (whole.attempts, resumed.attempts) == (1, 2)
    assert resumed.identity.environment.processes == 3
    assert resumed.epochs == whole.epochs
    for path in (undisturbed / "logits").iterdir():
        np.testing.assert_array_equal(np.load(path), np.load(folder / "logits" / path.name))
    assert not (folder / CHECKPOINTS).exists()


def test_a_failure_of_one_process_ends_all(tmp_path):
    begin = time.monotonic()
    code, output = run(WORKER, str(tmp_path), "fail")
    assert code != 0
    assert time.monotonic() - begin < SECONDS_TO_END
    assert "planted in the second process" in output
    record = read_record(run_folder(tmp_path))
    assert record.status is Status.FAILED
    assert record.error.startswith("process 1: Traceback")
    assert record.error.endswith("RuntimeError: planted in the second process\n")


@pytest.mark.slow
def test_a_loss_of_nan_in_one_process_is_the_end_of_all_as_diverged(tmp_path):
    code, output = run(WORKER, str(tmp_path), "diverge")
    assert code == 0, output
    assert [(tmp_path / f"ending_{rank}").read_text() for rank in (0, 1)] == ["diverged", "diverged"]
    assert read_record(run_folder(tmp_path)).error == "loss is nan at step 1, epoch 1"


SECOND = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


def test_a_process_alone_is_the_first_and_asks_nobody(monkeypatch):
    for name in SECOND:
        monkeypatch.delenv(name, raising=False)
    assert (count_processes(), process_rank(), is_first()) == (1, 0, True)
    assert agree(lambda: "decided") == "decided"
    refuse_sweep()
    monkeypatch.setenv("RANK", "1")  # left over from elsewhere: there is nobody to be second to
    assert is_first()


def test_who_shares_a_run_has_to_be_told(monkeypatch):
    for name, value in SECOND.items():
        monkeypatch.setenv(name, value)
    assert (count_processes(), process_rank(), is_first()) == (2, 1, False)
    monkeypatch.delenv("MASTER_PORT")
    with pytest.raises(
        InputError, match="WORLD_SIZE=2: MASTER_PORT is not set; allowed is 1, or what torchrun"
    ):
        count_processes()


@pytest.mark.parametrize("sweep", [["train", "-m", "seed=1,2"], ["sweep", "experiment=demo"]])
def test_a_sweep_under_torchrun_is_refused_in_one_line(tmp_path, sweep):
    ended = subprocess.run(
        [sys.executable, *HARNESS, *sweep, *SMALL, f"runs_dir={tmp_path}"],
        env=environment(**SECOND),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        "error: torchrun with WORLD_SIZE=2: a sweep (-m, experiment=…) is not for torchrun"
    )
    assert not list(tmp_path.iterdir())
