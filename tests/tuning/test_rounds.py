"""A search of two rounds: what goes on, in whatever order its parts are run. Its runs are written, not trained."""

import shutil

import pytest

from glue_harness.errors import CONF, InputError
from glue_harness.runs.record import read_record
from glue_harness.sweeps import plan as sweep
from glue_harness.tuning import search as tune
from tests.support.planned_runs import make_record, write_run

GRID = (
    "experiment.grid=[{method: [full, lora], task: [rte, cola], rank: [4],"
    "trainer.learning_rate: [1e-4, 3e-4, 1e-3, 3e-3], trainer.head_learning_rate: [1e-3]}]"
)
PEAKS = {("rte", 3): 1e-3, ("cola", 3): 3e-3, ("rte", 10): 3e-4, ("cola", 10): 1e-3}
"""The best learning rate by task and epochs: the mean of both is best at 3e-3 in the short round."""


def score(config):
    rates = (1e-4, 3e-4, 1e-3, 3e-3)
    peak = PEAKS[config.task.name, config.trainer.epochs]
    slope = 0.1 if config.task.name == "cola" else 0.04
    return 0.9 - slope * abs(rates.index(peak) - rates.index(config.trainer.learning_rate))


@pytest.fixture
def search(tmp_path, monkeypatch):
    """Return a function that runs `make tune` with further overrides and returns the pairs that it has run."""
    shutil.copytree(CONF, tmp_path / "conf")
    for module in ("sweeps.plan", "tuning.search"):
        monkeypatch.setattr(f"glue_harness.{module}.CONF", tmp_path / "conf")
    started = []

    def run_grid(overrides):
        for cell in sweep.plan(list(overrides)).cells:
            folder = tmp_path / "runs" / cell.identity.folder
            if read_record(folder) is None:
                config = cell.config
                started.append(
                    (
                        config.trainer.epochs,
                        config.method.name,
                        config.task.name,
                        config.trainer.learning_rate,
                    )
                )
                scores = (*[0.5] * (config.trainer.epochs - 1), score(config))
                write_run(make_record(cell, scores=scores), tmp_path / "runs")

    def run(*overrides, grid=GRID):
        started.clear()
        common = ["model=tiny_roberta", "data=local", "data.root=/nowhere", grid]
        folders = [f"{name}_dir={tmp_path / name}" for name in ("runs", "results")]
        tune.tune([*common, *folders, *overrides])
        return list(started)

    monkeypatch.setattr(tune, "_run_grid", run_grid)
    return run


def read_choice(tmp_path, method, task):
    text = (tmp_path / "conf" / "tuned" / f"tiny_roberta_{method}_{task}.yaml").read_text()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("learning_rate:"))


def finals(started):
    return [run[1:] for run in started if run[0] == 10]


def test_the_final_round_goes_down_until_the_lowest_wins_nowhere(search, tmp_path):
    full = [("full", task, rate) for rate in (3e-3, 1e-3, 3e-4, 1e-4) for task in ("rte", "cola")]
    assert sorted(finals(search("only.method=[full]"))) == sorted(full)
    assert (read_choice(tmp_path, "full", "rte"), read_choice(tmp_path, "full", "cola")) == (3e-4, 1e-3)
    assert search("only.method=[full]") == []
    text = (tmp_path / "conf" / "tuned" / "tiny_roberta_full_rte.yaml").read_text()
    assert "At the edge" not in text
    assert "Taken from 4 trials of 3 epochs: " in text
    assert text.startswith("# Found by `edora-glue tune experiment=tune model=tiny_roberta data=local 'exp")


def test_a_part_of_a_method_s_tasks_leaves_the_final_round_to_the_rest(search, tmp_path, capfd):
    assert finals(search("only.method=[full]", "only.task=[rte]")) == []
    said = capfd.readouterr().err
    assert "nothing of full goes on: it waits for trials of the first round on cola" in said
    assert not list((tmp_path / "conf" / "tuned").glob("tiny_roberta_full_*"))
    assert {run[1] for run in finals(search("only.method=[full]"))} == {"rte", "cola"}


def test_in_parts_it_ends_in_the_same_bytes_as_at_once(search, tmp_path):
    for part in ("only.method=[lora]", "only.task=[cola]", "only.method=[full]"):
        search(part)
    search()
    names = ("results", "conf/tuned")
    in_parts = {path: path.read_bytes() for name in names for path in (tmp_path / name).rglob("*.*")}
    for name in ("runs", "results"):
        shutil.rmtree(tmp_path / name)
    search()
    assert {path: path.read_bytes() for name in names for path in (tmp_path / name).rglob("*.*")} == in_parts


def test_a_further_task_joins_a_finished_search(search, tmp_path):
    search(grid=GRID.replace("[rte, cola]", "[rte]"))
    before = {run[3] for run in search(grid=GRID.replace("[rte, cola]", "[rte]")) if run[0] == 10}
    assert before == set()
    started = finals(search())
    assert {task for _, task, _ in started} >= {"cola"}
    assert read_choice(tmp_path, "lora", "cola") == 1e-3


def test_epochs_on_the_command_line_are_the_first_round_s(search):
    assert {run[0] for run in search("trainer.epochs=3", "only.method=[full]")} == {3, 10}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("experiment.final=nix", "experiment.final=nix: allowed is one of "),
        ("experiment.final=first_light", "data.holdout=null: allowed is a share of train"),
        (
            "experiment.final=tune",
            "experiment.final=tune: trainer.epochs=3: allowed is more than the 3 of the",
        ),
        ("trainer.epochs=12", "experiment.final=tune_final: trainer.epochs=10: allowed is more than the 12"),
    ],
)
def test_a_final_round_that_is_none_is_refused_before_anything_runs(search, tmp_path, change, message):
    with pytest.raises(InputError) as caught:
        search(change)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "runs").exists()


def test_evidence_of_another_search_is_refused_before_anything_runs(search, tmp_path):
    search()
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(InputError, match="tune-tiny_roberta: holds 10 runs that are not planned now"):
        search(grid=GRID.replace("full, ", "").replace("1e-4, ", ""))
    assert not (tmp_path / "runs").exists()


def test_the_best_two_of_one_task_go_on_to_another(search, tmp_path, monkeypatch):
    """Each task has the choice of its own round, and the other task's serves the tasks without a search."""
    conf = tmp_path / "conf" / "experiment"
    grid = (
        "[{method: [full, lora], task: [TASK], rank: [4], trainer.learning_rate: [1e-4, 3e-4, 1e-3, 3e-3]}]"
    )
    head = "# @package _global_\ndefaults: [tune]\ntrainer: {head_learning_rate: 1e-3, epochs: EPOCHS}\nexperiment:\n"
    for name, task, epochs, final in (("one", "cola", "3", "two"), ("two", "rte", "10", "null")):
        body = f"  name: {name}\n  title: T\n  final: {final}\n  grid: {grid.replace('TASK', task)}\n"
        (conf / f"{name}.yaml").write_text(head.replace("EPOCHS", epochs) + body)
    for module in ("sweeps.plan", "errors", "config.compose"):
        monkeypatch.setattr(f"glue_harness.{module}.CONF", tmp_path / "conf")
    started = search("experiment=one", grid="seed=1")
    assert {run[2] for run in started if run[0] == 3} == {"cola"}
    assert sorted(finals(started)) == [
        (method, "rte", rate) for method in ("full", "lora") for rate in (1e-3, 3e-3)
    ]
    assert read_choice(tmp_path, "lora", "cola") == 3e-3
    assert read_choice(tmp_path, "lora", "rte") == 1e-3
    tuned = tmp_path / "conf" / "tuned"
    assert "learning_rate: 0.001\n" in (tuned / "any" / "tiny_roberta_lora.yaml").read_text()
    rte = (tuned / "tiny_roberta_lora_rte.yaml").read_text()
    assert "# Taken from 4 trials of 3 epochs on CoLA: " in rte
    assert f"all trials: {tmp_path}/results/two-tiny_roberta/search.md" in rte
    assert "Taken from" not in (tuned / "tiny_roberta_lora_cola.yaml").read_text()
    assert search("experiment=one", grid="seed=1") == []
