"""A sweep under every launcher, on a real Ray and a real SLURM: the same bits."""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glue_harness.hardware import count_gpus
from glue_harness.sweeps.plan import plan
from tests.support.sweep_processes import (
    ROOT,
    TINY,
    environment,
    find_records,
    finish,
    read_attempts,
    read_results,
    run_sweep,
    start_sweep,
    wait_for,
)

GRID = [*TINY, "method=full,lora,edora", "task=rte", "seed=1,2"]
FEW = [*TINY, "method=edora", "task=rte", "seed=1,2"]
ONE_NODE = ROOT / "tests" / "integration" / "slurm" / "one_node.sh"
SLURM_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ARRAY_SIZE = 2
RAY_PORT = 26379  # outside of Ray's own worker ports, 10002 to 19999

pytestmark = pytest.mark.slow

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: make setup-ray"
)


@pytest.fixture(scope="module")
def joblib_results(tmp_path_factory):
    runs_dir = tmp_path_factory.mktemp("joblib")
    assert "6 complete" in run_sweep(*GRID, f"runs_dir={runs_dir}", "launcher=joblib")
    return read_results(GRID, runs_dir)


def test_one_after_the_other_gives_the_same_bits(joblib_results, tmp_path):
    run_sweep(*GRID, f"runs_dir={tmp_path}", "launcher=basic")
    assert read_results(GRID, tmp_path) == joblib_results


@needs_ray
def test_a_local_ray_gives_the_same_bits(joblib_results, tmp_path):
    run_sweep(*GRID, f"runs_dir={tmp_path}", "launcher=ray")
    assert read_results(GRID, tmp_path) == joblib_results


@pytest.fixture(scope="module")
def ray_cluster():
    """A Ray of one node that is there before the sweep; yields what a process needs to be let in."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    begin = [*ray, "start", "--head", f"--port={RAY_PORT}", "--num-cpus=2"]
    begin += ["--include-dashboard=false", "--object-store-memory=78643200"]
    subprocess.run(begin, env=environment(**token), check=True, capture_output=True)
    yield token
    subprocess.run([*ray, "stop", "--force"], env=environment(**token), check=True, capture_output=True)


@needs_ray
@pytest.mark.parametrize("address", ["auto", f"127.0.0.1:{RAY_PORT}"])
def test_a_ray_cluster_that_runs_is_joined(ray_cluster, address, tmp_path):
    chosen = ["launcher=ray_cluster", f"hydra.launcher.ray.init.address='{address}'"]
    run_sweep(*FEW, f"runs_dir={tmp_path}", *chosen, **ray_cluster)
    assert read_attempts(FEW, tmp_path) == [1, 1]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A SLURM of one node whose arrays hold few jobs; yields the path of its configuration."""
    path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
    missing = [name for name in SLURM_PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("a SLURM of one node has to be started by root")
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is not installed: make setup")
    folder = tmp_path_factory.mktemp("slurm")
    variables = environment(MAX_ARRAY_SIZE=str(ARRAY_SIZE), PATH=path)
    try:
        subprocess.run([ONE_NODE, "up", folder], env=variables, check=True, timeout=120)
        yield str(folder / "slurm.conf")
    finally:
        subprocess.run([ONE_NODE, "down", folder], env=variables, check=True, timeout=120)


def submitted(runs_dir: Path):
    return [path.name for path in (runs_dir / ".submitit").glob("[0-9]*_*")]


def test_slurm_gives_the_same_bits_in_arrays_that_the_site_allows(slurm, joblib_results, tmp_path):
    said = run_sweep(*GRID, f"runs_dir={tmp_path}", "launcher=slurm", SLURM_CONF=slurm)
    asked = "jobs ask for no GPU; hydra.launcher.gpus_per_node=1 asks for one each"
    assert (asked in said) == (count_gpus() == 0)
    assert read_results(GRID, tmp_path) == joblib_results
    assert len({name.partition("_")[0] for name in submitted(tmp_path)}) == 3  # 6 runs, at most 2 an array


def test_what_is_in_slurms_queue_outlives_the_shell_that_put_it_there(slurm, tmp_path):
    sweep = start_sweep(*FEW, f"runs_dir={tmp_path}", "launcher=slurm", SLURM_CONF=slurm)
    wait_for(lambda: len(submitted(tmp_path)) == 2)
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.communicate()
    assert not find_records(tmp_path)
    wait_for(lambda: len(find_records(tmp_path)) == 2)
    said = run_sweep(*FEW, f"runs_dir={tmp_path}", "launcher=slurm", SLURM_CONF=slurm)
    assert "2 runs, 2 done, 0 to do" in said
    assert read_attempts(FEW, tmp_path) == [1, 1]


def hurry(slurm):
    """Let jobs that were queued again begin at once; SLURM would hold them for two minutes."""
    variables = environment(SLURM_CONF=slurm)
    listed = subprocess.run(
        ["squeue", "--noheader", "--states=PENDING", "--format=%i"],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    for job in listed.stdout.split():
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], env=variables, check=False)


def test_a_job_that_meets_slurms_time_limit_is_queued_again_and_goes_on(slurm, tmp_path):
    """A run with more to do than its minute: as many epochs as take 45 s at the pace of a short one."""
    run = [*TINY, "trainer=fast", "method=lora", "task=sst2", "seed=1"]
    short = [*run, "trainer.epochs=20", f"runs_dir={tmp_path / 'short'}"]
    run_sweep(*short, "launcher=basic")
    cost = plan(short).cells[0].record().cost
    long = [*run, f"trainer.epochs={int(20 * 45 / (cost.train_seconds + cost.eval_seconds)) + 1}"]
    limits = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=20"]
    sweep = start_sweep(*long, f"runs_dir={tmp_path}", "launcher=slurm", *limits, SLURM_CONF=slurm)
    while sweep.poll() is None:
        hurry(slurm)
        time.sleep(5)
    code, errors = finish(sweep)
    assert code == 0, errors
    assert read_attempts(long, tmp_path)[0] > 1
