"""Every run is a fresh process: what ran before it, and how it was started, leaves no trace in its bits."""

import os
import subprocess
import sys

from glue_harness import supervise
from glue_harness.records import TRAINED_WEIGHTS, Status
from glue_harness.sweep import plan

from .sweep_processes import ROOT, environment

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


def test_nothing_is_left_over_from_another_run(tmp_path):
    run_in_child(ONE, tmp_path / "first")
    for other in OTHERS:
        run_in_child(other, tmp_path / "others")
    run_in_child(ONE, tmp_path / "after others")
    assert read_bits(tmp_path / "after others") == read_bits(tmp_path / "first")


def test_a_run_of_its_own_and_without_a_cache_has_the_same_bits(tmp_path):
    run_in_child(ONE, tmp_path / "child")
    subprocess.run(
        [sys.executable, "-m", "glue_harness.train", *ONE, f"runs_dir={tmp_path / 'alone'}"],
        env=environment(EDORA_CACHE="off"),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert read_bits(tmp_path / "alone") == read_bits(tmp_path / "child")
    assert os.environ["EDORA_CACHE"] != "off"  # the child had tokens and bases from the cache
