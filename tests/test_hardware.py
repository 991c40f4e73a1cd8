import contextlib
import ctypes
import fcntl
import os
import subprocess
import sys

import pytest

from glue_harness import hardware
from glue_harness.errors import InputError
from glue_harness.hardware import Environment

COUNT_FAULTS = """
import resource, sys
import torch
from glue_harness.hardware import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for step in range(8):
    if step == 4:  # the first ones find their places
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="glibc alone is told so")
def test_memory_that_was_freed_is_not_faulted_in_again():
    faults = {}
    for choice in ("keep", "give back"):
        command = [sys.executable, "-c", COUNT_FAULTS, choice]
        faults[choice] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert faults["keep"] < 100 < faults["give back"]


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "count_gpus", lambda: 2)
    monkeypatch.setattr(hardware, "GPU_POLL_SECONDS", 0.001)
    monkeypatch.setattr(hardware.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")


@pytest.mark.usefixtures("two_gpus")
def test_a_run_waits_for_a_gpu_of_its_own_and_keeps_nothing_open_meanwhile(tmp_path, monkeypatch):
    looks = []

    def look(_):
        looks.append(len(os.listdir("/proc/self/fd")))
        if len(looks) == 50:
            busy[1].close()

    with contextlib.ExitStack() as held:
        busy = []
        for gpu in range(2):
            path = tmp_path / f"glue-harness-gpu-{gpu}-0.lock"
            path.touch()
            path.chmod(0o444)  # another user's
            busy.append(held.enter_context(path.open("rb")))
            fcntl.flock(busy[-1], fcntl.LOCK_EX)
        monkeypatch.setattr(hardware.time, "sleep", look)
        with hardware.take_gpu(runs_per_gpu=1):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
            assert len(looks) == 50
            assert len(set(looks)) == 1


@pytest.mark.usefixtures("two_gpus")
def test_slurm_jobs_on_one_node_do_not_wait_for_each_other_s_gpus(monkeypatch, tmp_path):
    """Each numbers the GPUs that it was given from 0."""
    with contextlib.ExitStack() as others:
        for job in ("", "7", "8"):
            monkeypatch.setenv("SLURM_JOB_ID", job)
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
            others.enter_context(hardware.take_gpu(runs_per_gpu=1))
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.lock")} == {0o644}


@pytest.mark.usefixtures("two_gpus")
def test_a_place_that_another_user_keeps_to_themselves_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "glue-harness-gpu-0-0.lock").mkdir()  # for root, no mode bit would do
    with (
        pytest.raises(InputError, match=r"gpu-0-0\.lock: Is a directory; allowed is a file that all"),
        hardware.take_gpu(runs_per_gpu=1),
    ):
        pass


@pytest.mark.usefixtures("two_gpus")
def test_several_runs_share_a_gpu_once_each_has_one(monkeypatch):
    taken = []
    monkeypatch.setattr(hardware.time, "sleep", lambda _: running.close())  # who waits sees the first one end
    with contextlib.ExitStack() as others:
        running = others.enter_context(contextlib.ExitStack())
        for _ in range(5):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
            (running if not taken else others).enter_context(hardware.take_gpu(runs_per_gpu=2))
            taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert taken == ["4", "6", "4", "6", "4"]
    assert hardware.runs_at_once(runs_per_gpu=2) == 4


def test_without_a_gpu_a_run_has_a_core(monkeypatch):
    monkeypatch.setattr(hardware, "count_gpus", lambda: 0)
    assert hardware.runs_at_once(runs_per_gpu=3) == len(os.sched_getaffinity(0))


@pytest.mark.usefixtures("two_gpus")
def test_a_single_process_with_two_gpus_is_told_to_choose():
    environment = Environment(device="cuda", precision="fp32", threads=None, processes=1)
    with pytest.raises(InputError, match="2 GPUs are visible; allowed is one a run"):
        hardware.require_one_gpu(environment)
    hardware.require_one_gpu(environment.model_copy(update={"processes": 2}))
    hardware.require_one_gpu(environment.model_copy(update={"device": "cpu"}))
