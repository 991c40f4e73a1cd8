"""The benchmark of whole runs, on a few steps of a tiny model: that it measures, not what."""

import subprocess
import sys

import pytest

from benchmarks import runs, runs_report
from benchmarks.epoch import COMPETITORS, Course

COURSE = Course(glue_root=None, threads=1, steps=2, model="tiny_roberta", task="rte")


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "CORES", 2)
    monkeypatch.setattr(runs, "SWEEP_RUNS", 2)
    monkeypatch.setattr(runs, "SWEEP_STEPS", 2)
    monkeypatch.setattr(runs, "GROWTH_MODEL", "tiny_roberta")
    monkeypatch.setattr(runs, "GROWTH", {"rank": [{"rank": 2, "layers": 1}, {"rank": 4, "layers": 2}]})
    monkeypatch.setattr(runs.torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr("benchmarks.measure.CALM", float("inf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.slow
def test_every_competitor_trains_on_the_same_rows():
    (times,) = runs.measure_epochs(COURSE, rounds=1)
    assert set(times) == set(COMPETITORS)
    for name, run in times.items():
        assert run["examples"] == 64, name
        assert run["train_seconds"] > 0, name
        assert run["eval_seconds"] > 0, name
        assert run["peak_bytes"] > 2**27, name
        assert 0 < run["start_seconds"] < 120, name
    table = runs_report.render({"machine": MACHINE, "course": WRITTEN, "parts": {"epochs": [times]}})
    assert "| `trainer=fast`, EDoRA |" in table
    assert "with evaluation | over `fast` |" in table


@pytest.mark.slow
def test_a_sweep_and_as_many_processes_make_the_same_runs():
    (times,) = runs.measure_sweep(COURSE, rounds=1)
    assert times["runs"] == 2
    names = ("sweep", "processes", "processes_on_all_cores")
    assert min(times[name] for name in names) > times["training_a_run"] > 0
    (pace,) = runs.measure_cores(COURSE, rounds=1)
    assert min(pace["one_run"], pace["a_run_a_core"]) > 0
    table = runs_report.render(
        {"machine": MACHINE, "course": WRITTEN, "parts": {"sweep": [times], "cores": [pace]}}
    )
    assert "| 2 short runs, " in table
    assert "| One single-threaded run a core |" in table


def test_growth_is_told_by_what_grows():
    growth = runs.measure_growth(rounds=1)
    (points,) = growth.values()
    assert [(point["rank"], point["layers"]) for point in points] == [(2, 1), (4, 2)]
    table = runs_report.render({"machine": MACHINE, "course": WRITTEN, "parts": {"growth": growth}})
    assert "| Step, by rank | 2 | 4 |" in table
    assert "| Floor | 1.000 (" in table


def test_a_child_that_fails_ends_the_benchmark(capfd):
    with pytest.raises(RuntimeError, match="fast ended with exit code"):
        runs._finish(runs._start("fast", Course(None, 1, model="no_such_model")), "fast")
    assert "no_such_model" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "epoch"], "parts=epoch: allowed is one of epochs, cores, sweep, growth"),
        (["--glue-root", "nowhere"], "glue-root=nowhere: allowed is a folder that holds mrpc/"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        runs.main(arguments)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


MACHINE = {
    "processor": "a machine",
    "cores": 2,
    "threads": 2,
    "memory_bytes": 2**30,
    "python": "3.11",
    "packages": {},
    "commit": None,
    "dirty": True,
}
WRITTEN = runs_report.describe_course(COURSE)


def test_the_module_is_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.runs", "--help"], check=True, capture_output=True, text=True
    )
    assert "--glue-root" in done.stdout
