"""Every run is a fresh process: what ran before it, and how it was started, leaves no trace in its bits."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

from glue_harness.runs.lock import own_run
from glue_harness.runs.outcome import End
from glue_harness.runs.progress import Progress, write_progress
from glue_harness.runs.record import TRAINED_WEIGHTS, Status
from glue_harness.sweeps.plan import plan
from glue_harness.training import worker as supervise
from tests.support.planned_runs import GPU, make_cell, make_record, write_run
from tests.support.sweep_processes import ROOT, environment, is_training, wait_for

RUN = ["model=tiny_roberta", "data=miniature", "trainer=fast", "trainer.epochs=2", "trainer.batch_size=128"]
ONE = [*RUN, "task=rte", "method=edora", "rank=4", "seed=1"]
OTHERS = [
    [*RUN, "task=stsb", "method=full", "seed=2"],
    [*RUN, "task=cola", "method=dora", "rank=8", "seed=3", "model=tiny_deberta"],
    [*RUN, "task=rte", "method=edora", "rank=8", "seed=1", "trainer=paper", "trainer.epochs=1"],
]


def find(overrides, folder):
    (cell,) = plan([*overrides, f"runs_dir={folder}"]).cells
    return cell


def run_in_child(overrides, folder):
    cell = find(overrides, folder)
    state, message, _ = supervise.supervise(cell.config, cell.identity)
    assert state == Status.COMPLETE, message


def read_bits(folder):
    cell = find(ONE, folder)
    logits = {path.name: path.read_bytes() for path in (cell.folder / "logits").iterdir()}
    return cell.record().epochs, logits, (cell.folder / TRAINED_WEIGHTS).read_bytes()


def test_a_run_that_another_machine_has_ended_or_is_at_is_not_begun(tmp_path):
    """Two hosts of one sweep, of which one has GPUs: each has its own folder for the run."""
    here = make_cell()
    config = replace(here.config, runs_dir=str(tmp_path))
    there = make_cell(environment=GPU)
    folder = tmp_path / there.identity.folder
    with own_run(folder):
        write_progress(Progress(*there.key, 3, 10, 7.0, "there", 1), folder)
        busy = supervise.supervise(config, here.identity)
    assert (busy.state, busy.folder) == (End.BUSY, folder)
    write_run(make_record(there), tmp_path)
    skipped = supervise.supervise(config, here.identity)
    assert (skipped.state, skipped.folder) == (End.SKIPPED, folder)


def test_slurms_signal_that_a_job_is_preempted_does_not_end_its_run(tmp_path):
    """SLURM sends SIGTERM to all processes of a job, and kills them later; submitit only takes note of it."""
    overrides = [*ONE, "trainer.epochs=20", f"runs_dir={tmp_path}"]
    code = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "from glue_harness.training import worker as supervise; from glue_harness.sweeps.plan import plan\n"
        "cell = plan(sys.argv[1:]).cells[0]; print(supervise.supervise(cell.config, cell.identity).state)"
    )
    job = subprocess.Popen(
        [sys.executable, "-c", code, *overrides],
        env=environment(SLURM_JOB_ID="7"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: is_training(tmp_path))
    os.killpg(job.pid, signal.SIGTERM)
    assert is_training(tmp_path)  # so it met the run
    assert job.communicate(timeout=900)[0].strip() == "complete"


def test_nothing_is_left_over_from_another_run(tmp_path):
    run_in_child(ONE, tmp_path / "first")
    for other in OTHERS:
        run_in_child(other, tmp_path / "others")
    run_in_child(ONE, tmp_path / "after others")
    assert read_bits(tmp_path / "after others") == read_bits(tmp_path / "first")


def test_a_run_of_its_own_and_without_a_cache_has_the_same_bits(tmp_path):
    run_in_child(ONE, tmp_path / "child")
    subprocess.run(
        [sys.executable, "-m", "glue_harness", "train", *ONE, f"runs_dir={tmp_path / 'alone'}"],
        env=environment(EDORA_CACHE="off"),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert read_bits(tmp_path / "alone") == read_bits(tmp_path / "child")
    assert os.environ["EDORA_CACHE"] != "off"  # the child had tokens and bases from the cache
