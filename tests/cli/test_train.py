"""The command line, end to end: real runs in real processes."""

import json
import os
import subprocess
import sys
import time

import pytest

from glue_harness.runs.lock import own_run
from glue_harness.runs.record import Status, read_record
from glue_harness.sweeps.plan import plan

SMALL = ["model=tiny_roberta", "data=miniature", "trainer=smoke"]


def command(*arguments, module="train"):
    return subprocess.run(
        [sys.executable, "-m", "glue_harness", module, *arguments],
        env=os.environ | {"PYTHONPATH": "src", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_run_makes_one_record_and_running_it_again_does_nothing(tmp_path):
    arguments = [*SMALL, "task=rte", "method=edora", "rank=4", f"runs_dir={tmp_path}"]
    first = command(*arguments)
    assert first.returncode == 0, first.stderr
    (cell,) = plan(arguments).cells
    record = cell.record()
    assert record.status is Status.COMPLETE
    assert record.identity == cell.identity
    assert set(record.epochs[0].metrics["all"]) == {"accuracy"}
    assert record.provenance.data_sha256 == cell.identity.planned["data"]
    assert record.cost.train_examples_per_second > 0
    assert {path.name for path in cell.folder.iterdir()} >= {
        "record.json",
        "adapter",
        "logits",
        "config.yaml",
    }
    written = (cell.folder / "record.json").stat().st_mtime_ns
    again = command(*arguments)
    assert again.returncode == 0
    assert "skipped" in again.stderr
    assert (cell.folder / "record.json").stat().st_mtime_ns == written


def test_a_sweep_runs_what_is_left_in_children_and_gives_the_single_runs_bits(tmp_path):
    arguments = [*SMALL, "task=sst2,stsb", "method=full,edora", "rank=4"]
    sweep = command("-m", *arguments, f"runs_dir={tmp_path / 'sweep'}")
    assert sweep.returncode == 0, sweep.stderr
    assert ": 4 runs, 0 done, 4 to do" in sweep.stderr
    assert "4 complete" in sweep.stderr
    again = command("-m", *arguments, f"runs_dir={tmp_path / 'sweep'}")
    assert again.returncode == 0
    assert "4 runs, 4 done, 0 to do; nothing to run" in again.stderr
    single = [*SMALL, "task=stsb", "method=edora", "rank=4", f"runs_dir={tmp_path / 'single'}"]
    assert command(*single).returncode == 0
    (alone,) = plan(single).cells
    inside = read_record(tmp_path / "sweep" / alone.identity.folder)
    assert inside.epochs == alone.record().epochs


def test_a_run_that_fails_is_recorded_and_the_others_go_on(tmp_path):
    """The planted failure: a file where the first run wants to put its folder of logits."""
    arguments = [*SMALL, "task=sst2", "method=full,lora", "rank=4", f"runs_dir={tmp_path}"]
    planned = plan(arguments)
    blocked = planned.cells[0].folder
    blocked.mkdir(parents=True)
    (blocked / "logits").write_text("a file where a folder should be")
    sweep = command("-m", *arguments)
    assert sweep.returncode == 1
    assert "1 complete, 1 failed" in sweep.stderr or "1 failed, 1 complete" in sweep.stderr
    failed, complete = (cell.record() for cell in planned.cells)
    assert (failed.status, complete.status) == (Status.FAILED, Status.COMPLETE)
    assert "FileExistsError" in failed.error or "NotADirectoryError" in failed.error
    assert failed.attempts == complete.attempts == 1
    (blocked / "logits").unlink()
    retry = command("-m", *arguments, "seed=1,2", "hydra.sweeper.retry=true")
    assert retry.returncode == 0, retry.stderr
    assert "4 runs, 1 done, 1 to do" in retry.stderr  # seed 2 has not failed: it has not been run
    again, untouched = (cell.record() for cell in planned.cells)
    assert again.status is Status.COMPLETE
    assert again.attempts == 2
    assert untouched == complete
    nothing = command("-m", *arguments, "seed=1,2", "hydra.sweeper.retry=true")
    assert nothing.returncode == 0
    assert "4 runs, 2 done, 0 to do; nothing to run" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=colla"], "error: task=colla: allowed is one of cola"),
        (["model=null"], "error: model=null: allowed is one of deberta_v2_xxlarge"),
        (["-m", "task=rte,null"], "error: task=rte,null: allowed is one of cola"),
        (["+trainer=3"], "error: +trainer=3: allowed is one of fast, paper, smoke"),
        (["rank=0"], "error: rank=0: allowed is 1 to 64 for tiny_roberta"),
        (["+trainer.lerning_rate=1"], "error: trainer.lerning_rate: there is no such key"),
        (["data=local", "data.root=/nowhere"], "error: data.root=/nowhere: there is no such folder"),
        (
            ["-m", "data=local", "data.root=/nowhere", "seed=1,2"],
            "error: data.root=/nowhere: there is no such",
        ),
        (["runs_dir=/proc/nowhere"], "error: runs_dir: /proc/nowhere/tiny_roberta"),
        (["method.adapter.target_modules=[nix]"], "error: method=edora, target_modules=['nix']"),
        (
            ["experiment=demo"],
            "error: experiment=demo: is a grid of runs, not one run; type edora-glue sweep model=",
        ),
        (["-m", "runs_dir=/proc/nowhere"], "error: runs_dir: /proc/nowhere cannot be written"),
        (["-m", "launcher=ray", "hydra.launcher.ray.init.address=127.0.0.1:1"], "error: launcher=ray: "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    multirun = [argument for argument in arguments if argument == "-m"]
    others = [argument for argument in arguments if argument != "-m"]
    runs = [] if any(argument.startswith("runs_dir") for argument in others) else [f"runs_dir={tmp_path}"]
    result = command(*multirun, *SMALL, *runs, *others)
    lines = result.stderr.splitlines()
    assert result.returncode == 2
    assert len(lines) == 1
    assert lines[0].startswith(message)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_sweep_runs_sources_before_what_starts_from_them(tmp_path):
    grid = "experiment.grid=[{task: [rte, stsb], init_from: [mnli]}, {task: [mnli]}]"
    arguments = [*SMALL, "method=lora", "rank=4", grid, f"runs_dir={tmp_path}"]
    sweep = command("-m", *arguments)
    assert sweep.returncode == 0, sweep.stderr
    assert "3 complete" in sweep.stderr
    staged = [*SMALL, "method=lora", "rank=4", "task=rte", "init_from=mnli"]
    single = command(*staged, f"runs_dir={tmp_path}")
    assert "skipped" in single.stderr  # the same run by its own command line
    alone = command(*staged, f"runs_dir={tmp_path / 'elsewhere'}")
    assert alone.returncode == 2
    (line,) = alone.stderr.splitlines()
    assert "make it first: edora-glue train model=tiny_roberta" in line


def test_a_child_that_dies_is_a_failed_run(tmp_path, build_config, monkeypatch):
    from glue_harness.hardware import resolve_environment
    from glue_harness.runs.identity import identify
    from glue_harness.training import worker as supervise

    config = build_config(f"runs_dir={tmp_path}")
    identity = identify(config, resolve_environment(config.trainer.precision))
    monkeypatch.setattr(supervise, "_run_in_child", _die)
    state, message, _ = supervise.supervise(config, identity)
    assert state == "failed"
    assert "died (signal SIGKILL; out of memory is the usual reason)" in message
    assert json.loads((tmp_path / identity.folder / "record.json").read_text())["status"] == "failed"


def _die(config, identity, sender):
    os.kill(os.getpid(), 9)


def test_killing_a_sweep_leaves_nobody_behind(tmp_path):
    """SIGKILL the sweep's own process: its workers and their children must not go on without it."""
    arguments = [
        *SMALL,
        "trainer=fast",
        "trainer.epochs=5000",
        "task=sst2",
        "method=full",
        "seed=1,2",
        f"runs_dir={tmp_path}",
    ]
    environment = os.environ | {"PYTHONPATH": "src", "HF_HUB_OFFLINE": "1"}
    sweep = subprocess.Popen(
        [sys.executable, "-m", "glue_harness", "train", "-m", *arguments], env=environment
    )
    wait_for(lambda: len(list(tmp_path.rglob("epoch_1.npy"))) == 2)
    sweep.kill()
    sweep.wait()
    wait_for(lambda: not processes_naming(str(tmp_path)) and not running_below(tmp_path))
    assert not list(tmp_path.rglob("record.json"))


def running_below(folder):
    """Return the run folders that a living process still owns."""
    owned = []
    for lock in folder.rglob(".lock"):
        with own_run(lock.parent) as ours:
            owned += [] if ours else [lock]
    return owned


def processes_naming(text):
    mine = str(os.getpid())
    listed = subprocess.run(["ps", "-eo", "pid,stat,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if text in line and line.split()[0] != mine]


def wait_for(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)
