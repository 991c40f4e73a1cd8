"""search=optuna: drawn between the ends of the grid, poor trials given up, gone on with where it was stopped."""

import shutil
import subprocess

import pytest

from glue_harness.errors import InputError
from glue_harness.optuna_search import _draw, _group, _open_study, run_trials
from glue_harness.run_lock import own_run
from glue_harness.search import RATES
from glue_harness.sweep import plan
from glue_harness.tune import tune

optuna = pytest.importorskip("optuna", reason="make setup-optuna")

KEY = ("lora_r4", "stsb")
LOW, HIGH = 1e-4, 1e-2


def make_plan(tmp_path, *overrides):
    return plan(
        [
            *(
                "experiment=tune",
                "model=tiny_roberta",
                "data=miniature",
                "search=optuna",
                "search.startup_trials=1",
            ),
            f"experiment.grid=[{{method: [lora], rank: [4], task: [stsb], trainer.learning_rate: [{LOW}, {HIGH}]}}]",
            *("trainer.precision=fp32", "trainer.head_learning_rate=1e-3", f"runs_dir={tmp_path / 'runs'}"),
            *("search.trials=3", "trainer.epochs=2", *overrides),
        ]
    )


@pytest.mark.slow
def test_a_search_has_its_trials_within_the_grid_and_does_none_twice(tmp_path):
    overrides = [
        o for o in make_plan(tmp_path).cells[0].overrides if not o.startswith("trainer.learning_rate=")
    ]
    grid = [o for o in overrides if not o.startswith(("method=", "rank=", "task="))]
    grid += ["trainer.max_steps=4", f"results_dir={tmp_path / 'results'}"]
    (finding,) = tune(grid)
    rates = [trial["learning_rate"] for trial in finding.trials]
    assert len(finding.trials) + finding.pruned == 3
    assert all(LOW <= rate <= HIGH for rate in rates)
    assert len(set(rates)) == len(rates)
    assert {trial["head_learning_rate"] for trial in finding.trials} == {1e-3}
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("record.json")}
    assert tune(grid) == [finding]
    assert all(path.stat().st_mtime_ns == before for path, before in records.items())
    assert (tmp_path / "results" / "tune-tiny_roberta-miniature-optuna" / "search.md").is_file()
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(InputError, match="-optuna: holds . runs that are not planned now"):
        tune(grid)
    assert not list((tmp_path / "runs").rglob("record.json"))


@pytest.mark.slow
def test_a_poor_trial_is_given_up_and_leaves_no_run(tmp_path):
    """Planted: one trial of a perfect score. What comes after it is poor by its first epoch, and would be endless."""
    whole = make_plan(tmp_path, "search.trials=2", "trainer.epochs=5000")
    ((key, cells),) = _group(whole).items()
    assert key == KEY
    folder = tmp_path / "runs" / "optuna" / whole.name
    folder.mkdir(parents=True)
    study = _open_study(cells, whole.config.search, folder)
    span = optuna.distributions.FloatDistribution(LOW, HIGH, log=True)
    perfect = optuna.trial.create_trial(
        params={"learning_rate": 1e-3},
        distributions={"learning_rate": span},
        value=1.0,
        intermediate_values=dict.fromkeys(range(1, 100), 1.0),
    )
    study.add_trial(perfect)
    trials, pruned = run_trials(whole, whole, check=lambda plan: None)
    assert pruned == {KEY: 1}
    assert [cell.config.trainer.learning_rate for cell in trials.cells] == [1e-3]
    assert not list((tmp_path / "runs").rglob("seed1"))
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in listed


def test_what_was_asked_before_an_interruption_is_tried_first(tmp_path):
    whole = make_plan(tmp_path)
    (cells,) = _group(whole).values()
    folder = tmp_path / "runs" / "optuna" / whole.name
    folder.mkdir(parents=True)
    study = _open_study(cells, whole.config.search, folder)
    before = _draw(study.ask(), cells)
    again = _open_study(cells, whole.config.search, folder)
    (frozen,) = again.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    assert _draw(optuna.trial.Trial(again, frozen._trial_id), cells).identity == before.identity
    assert _draw(again.ask(), cells).identity != before.identity


def test_a_drawn_cell_is_what_a_sweep_plans(tmp_path):
    whole = make_plan(tmp_path)
    (cells,) = _group(whole).values()
    cell = _draw(optuna.trial.FixedTrial({"learning_rate": 0.001234567890123456}), cells)
    (planned,) = plan(list(cell.overrides)).cells
    assert planned.identity == cell.identity
    assert planned.config.trainer.learning_rate == 0.001234567890123456
    assert {rate: getattr(cells[0].config.trainer, rate) for rate in RATES} == {
        "learning_rate": LOW,
        "head_learning_rate": 1e-3,
    }


def test_two_searches_at_once_are_refused(tmp_path):
    whole = make_plan(tmp_path)
    with own_run(tmp_path / "runs" / "optuna" / whole.name) as ours:
        assert ours
        with pytest.raises(InputError, match="is in use; allowed is one search there at a time"):
            run_trials(whole, whole, check=lambda plan: None)
