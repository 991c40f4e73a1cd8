from collections import Counter

import pytest

from glue_harness.cli import plan as plan_entry
from glue_harness.cli import status as status_entry
from glue_harness.runs.lock import own_run
from glue_harness.runs.progress import Progress, write_progress
from glue_harness.runs.record import Status
from glue_harness.sweeps.estimate import Estimate
from glue_harness.sweeps.summary import describe_needs, format_duration, format_size
from tests.support.planned_runs import make_cell, make_plan, make_record, write_run

CELLS = [
    make_cell(task, rank=rank, seed=seed) for rank in (8, 16) for task in ("rte", "cola") for seed in (1, 2)
]


@pytest.fixture
def planned(tmp_path):
    """Three complete, one failed, one diverged, one running, two missing."""
    plan = make_plan(CELLS, tmp_path)
    statuses = [*[Status.COMPLETE] * 3, Status.FAILED, Status.DIVERGED]
    for cell, status in zip(CELLS, statuses, strict=False):
        write_run(make_record(cell, status=status, attempts=2), tmp_path / "runs")
    cell = CELLS[5]
    folder = tmp_path / "runs" / cell.identity.folder
    with own_run(folder):
        write_progress(Progress(cell.cell_hash, cell.config.seed, 250, 1000, 1800.0, "node7", 42), folder)
        yield plan


def test_status_shows_done_running_failed_and_missing(planned, monkeypatch):
    monkeypatch.setattr(status_entry, "runs_at_once", lambda runs_per_gpu: 2)
    lines, ended = status_entry.describe_status(planned)
    assert not ended
    assert lines[0].endswith("runs: 8 runs, 3 complete, 1 diverged, 1 running, 1 failed, 2 missing")
    assert "tiny   lora_r8   2/2   1/2" in lines
    assert "tiny   lora_r16  1/2   0/2" in lines
    (running,) = [line for line in lines if "node7" in line]
    assert running == "tiny rte lora_r16 seed 2: step 250 of 1000 (25%), about 30 min left, node7 process 42"
    (failed,) = [line for line in lines if line.startswith("failed: ")]
    assert failed.startswith("failed: tiny cola lora_r8 seed 2: ")
    assert "(attempts: 2; " in failed
    assert [line for line in lines if line.startswith("diverged: tiny rte lora_r16 seed 1: ")]
    assert all("\n" not in line for line in lines)


def test_looking_changes_nothing(planned, tmp_path):
    def snapshot():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}

    before = snapshot()
    status_entry.describe_status(planned)
    plan_entry.describe_plan(planned)
    assert snapshot() == before


def test_plan_shows_the_grid_and_what_the_rest_takes(planned, monkeypatch):
    monkeypatch.setattr(plan_entry, "runs_at_once", lambda runs_per_gpu: 2)
    lines = plan_entry.describe_plan(planned)
    assert lines[:7] == [
        "demo: A demo & its table",
        "model   tiny",
        "task    rte cola",
        "method  lora",
        "rank    8 16",
        "seed    1 2",
        "4 settings, 8 runs",
    ]
    assert any(
        line.startswith("4 runs left, 800 rows to train on in 32 steps: about ") and "at 2 at once" in line
        for line in lines
    )
    assert any(line.startswith("disk: about ") and line.endswith(" free") for line in lines)
    assert lines[-1].startswith("measured on runs of the same models: 3 on Intel(R) Xeon(R)")


def test_a_plan_without_a_measured_run_says_so(tmp_path):
    lines = plan_entry.describe_plan(make_plan(CELLS, tmp_path))
    assert (
        lines[-1]
        == "8 runs left, 1,600 rows to train on in 64 steps: no similar run has finished, so that there is no estimate of time"
    )


def test_watching_ends_with_the_last_run(tmp_path, capsys, monkeypatch):
    plan = make_plan(CELLS[:2], tmp_path)
    write_run(make_record(CELLS[0]), tmp_path / "runs")
    pauses = []

    def finish(seconds):
        pauses.append(seconds)
        write_run(make_record(CELLS[1]), tmp_path / "runs")

    monkeypatch.setattr(status_entry.time, "sleep", finish)
    status_entry.watch(plan)
    assert len(pauses) == 1
    shown = capsys.readouterr().out
    assert "1 complete, 1 missing" in shown
    assert "2 runs, 2 complete" in shown


def test_what_is_unlike_all_measured_is_named():
    lines = describe_needs(Estimate(10, None, None, 3, 7200.0, 5_000_000, Counter({"A100": 4})), 4, 10**9)
    assert lines == [
        "10 runs left: about 30 min at 4 at once, 3 runs that resemble none left out (2.0 h one after the other)",
        "disk: about 5.0 MB more, 1.0 GB free",
        "measured on runs of the same models: 4 on A100",
    ]
    assert describe_needs(Estimate(0, 0, 0, 0, 0.0, 0, Counter()), 4, 10**9) == ["nothing is left to run"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (89.6, "90 s"), (720, "12 min"), (12_600, "3.5 h"), (12 * 86_400, "12 days")],
)
def test_durations_are_written_as_a_person_would(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(512, "512 bytes"), (3_400_000_000, "3.4 GB"), (2e16, "20000.0 TB")]
)
def test_sizes_are_written_as_a_person_would(size, text):
    assert format_size(size) == text
