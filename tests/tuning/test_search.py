"""The search of learning rates, end to end: on a folder that has no dev split at all."""

import shutil

import pytest
from datasets import Dataset
from omegaconf import OmegaConf

from glue_harness.data import miniature
from glue_harness.errors import CONF, InputError
from glue_harness.evidence.restore import restore
from glue_harness.reports.build import aggregate
from glue_harness.runs.index import LEFT
from glue_harness.runs.record import read_record
from glue_harness.sweeps import plan as sweep
from glue_harness.tuning.search import check_search, tune

ROWS = 120
UNFAIR = (
    "experiment.grid=[{method: [full], task: [mrpc], trainer.learning_rate: [1e-3, 1e-2]},"
    "{method: [head_only], task: [mrpc], trainer.head_learning_rate: [1e-3, 1e-2, 1e-1]}]"
)

SMALL = [
    *("model=tiny_roberta", "data=miniature", "trainer.max_steps=2", "trainer.epochs=1"),
    "experiment.grid=[{method: [head_only], task: [stsb], trainer.head_learning_rate: [1e-2]}]",
]


@pytest.fixture
def overrides(tmp_path):
    """Return a search of two methods, two trials each, of a few steps, on the train rows of the miniature STS-B."""
    rows = {name: list(values)[:ROWS] for name, values in miniature.generate("stsb")["train"].items()}
    path = tmp_path / "glue" / "stsb" / "train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    Dataset.from_dict(rows).to_parquet(path)
    return [
        "experiment=tune",
        "model=tiny_roberta",
        "task=stsb",
        f"task.splits.train={{rows: {ROWS}, sha256: null}}",
        "data=local",
        f"data.root={tmp_path / 'glue'}",
        "trainer.epochs=2",
        "experiment.final=null",
        "trainer.precision=fp32",
        "trainer.head_learning_rate=1e-3",
        "experiment.grid=[{method: [full], trainer.learning_rate: [1e-5, 1e-4]},"
        "{method: [lora], rank: [4], trainer.learning_rate: [1e-4, 1e-3]}]",
        f"runs_dir={tmp_path / 'runs'}",
        f"results_dir={tmp_path / 'results'}",
    ]


@pytest.fixture
def conf(tmp_path, monkeypatch):
    shutil.copytree(CONF, tmp_path / "conf")
    for module in ("sweeps.plan", "tuning.search"):
        monkeypatch.setattr(f"glue_harness.{module}.CONF", tmp_path / "conf")
    return tmp_path / "conf"


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_search_runs_once_is_resumed_and_reaches_the_next_run(tmp_path, overrides, conf, capfd):
    first = tune([*overrides, "only.method=[lora]"])
    assert [finding.key for finding in first] == [("tiny_roberta", "lora", "stsb")]
    assert (
        "tune-tiny_roberta: 2 trials of 2 epochs, for lora on stsb, 384 rows to train on\n"
        in capfd.readouterr().err
    )
    assert not (conf / "tuned" / "tiny_roberta_full_stsb.yaml").exists()
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("record.json")}
    assert len(records) == 2

    findings = tune(overrides)
    assert all(path.stat().st_mtime_ns == before for path, before in records.items())
    assert len(list((tmp_path / "runs").rglob("record.json"))) == 4
    assert [len(finding.scored) for finding in findings] == [2, 2]
    record = read_record(next(iter(records)).parent)
    assert set(record.provenance.data_sha256) == {"train"}
    assert record.identity.planned["data"] == {"train": f"{ROWS} rows", "holdout": "0.2 of train"}

    written = snapshot(tmp_path / "results") | snapshot(conf / "tuned")
    assert tune(overrides) == findings
    assert snapshot(tmp_path / "results") | snapshot(conf / "tuned") == written

    (finding,) = (finding for finding in findings if finding.key[1] == "lora")
    (cell,) = sweep.plan(["model=tiny_roberta", "method=lora", "task=stsb", "trainer=fast"]).cells
    assert cell.config.trainer.learning_rate == finding.best["learning_rate"]
    assert cell.config.trainer.head_learning_rate == finding.best["head_learning_rate"] == 1e-3
    (cell,) = sweep.plan(["model=tiny_roberta", "method=lora", "task=rte", "trainer=fast"]).cells
    assert cell.config.trainer.learning_rate == finding.best["learning_rate"]  # of the one task searched
    table = (tmp_path / "results" / "tune-tiny_roberta" / "search.md").read_text()
    assert "| STS-B (Pearson) | LoRA (r=4)       | 2 trials |" in table

    shutil.rmtree(tmp_path / "runs")
    planned = sweep.plan(overrides)
    report = restore(planned, tmp_path / "results" / planned.name, tmp_path / "runs")
    assert (report.restored, report.refused) == (4, [])
    assert planned.select(planned.take_inventory(), LEFT) == []


@pytest.mark.slow
def test_the_best_of_a_short_round_run_again_at_full_length_and_decide(tmp_path, overrides, conf, capfd):
    grid = "experiment.grid=[{method: [lora], rank: [4], trainer.learning_rate: [1e-5, 1e-4, 1e-3]}]"
    short = ("trainer.epochs", "experiment.grid", "experiment.final")
    long = [o for o in overrides if not o.startswith(short)] + [grid]
    (finding,) = tune(long)
    said = capfd.readouterr().err
    assert "tune-tiny_roberta: 3 trials of 3 epochs, for lora on stsb, 864 rows to train on\n" in said
    assert "tune_final-tiny_roberta: then two trials or more of each, 10 epochs, at least 1,920 rows" in said
    assert (
        "tune_final-tiny_roberta: 2 trials of 10 epochs, for lora on stsb, 1,920 rows to train on\n" in said
    )
    trials = len(finding.trials)
    assert [trial["epochs"] for trial in finding.trials] == [10] * trials
    text = (conf / "tuned" / "tiny_roberta_lora_stsb.yaml").read_text()
    first, final = (tmp_path / "results" / f"{name}-tiny_roberta" for name in ("tune", "tune_final"))
    assert f"; all trials: {final / 'search.md'}\n" in text
    assert f"# Taken from 3 trials of 3 epochs: {first / 'search.md'}\n" in text
    assert f"\nlearning_rate: {finding.best['learning_rate']!r}\n" in text
    assert "3 trials" in (first / "search.md").read_text()
    assert f"{trials} trials" in (final / "search.md").read_text()

    shutil.rmtree(tmp_path / "runs")
    for experiment, count in (("tune", 3), ("tune_final", trials)):
        planned = sweep.plan([f"experiment={experiment}", *long[1:]])
        report = restore(planned, tmp_path / "results" / planned.name, tmp_path / "runs")
        assert (report.restored, report.refused) == (count, [])
    written = snapshot(tmp_path / "results") | snapshot(conf / "tuned")
    assert tune(long) == [finding]
    assert snapshot(tmp_path / "results") | snapshot(conf / "tuned") == written


def test_the_committed_final_round_is_as_long_as_the_fast_trainer():
    first, final = (sweep.plan([f"experiment={name}", "model=minilm"]) for name in ("tune", "tune_final"))
    assert first.config.experiment.final == final.config.experiment.name
    assert final.config.experiment.final is None
    assert final.config.trainer.epochs == OmegaConf.load(CONF / "trainer" / "fast.yaml").epochs
    assert len(final.cells) == len(first.cells)
    assert {cell.config.data.holdout for cell in final.cells} == {0.2}


def test_the_committed_search_gives_every_method_ten_trials():
    """Counted from the grid; what it composes to is the next test's."""
    blocks = OmegaConf.load(CONF / "experiment" / "tune.yaml").experiment.grid
    searched = [method for block in blocks for method in block.method]
    assert len(set(searched)) == len(searched)
    assert {"full", "lora", "dora", "edora", "lora_xs", "head_only"} <= set(searched)
    for block in blocks:
        rates = (block["trainer.learning_rate"], block["trainer.head_learning_rate"])
        assert [len(values) for values in rates] == ([1, 10] if block.method == ["head_only"] else [5, 2])
        assert (block.task, block.seed) == (["mrpc", "stsb"], [1])
        assert block.get("rank", [16]) == [16]


def test_the_committed_search_touches_no_dev_row():
    planned = sweep.plan(["experiment=tune", "model=minilm", "only.method=[edora]", "only.task=[mrpc]"])
    check_search(planned)
    assert len(planned.cells) == 10
    for cell in planned.cells:
        assert cell.config.data.holdout == 0.2
        assert set(cell.identity.planned["data"]) == {"train", "holdout"}
        assert cell.config.runs_dir == "runs/tune"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "experiment=tune: head_only on mrpc: trials=3: allowed is 2, as for every method and task"),
        (["protocol=held_out"], "protocol=held_out: allowed is one with dev=whole"),
        (["data.holdout=null"], "data.holdout=null: allowed is a share of train, since"),
        (["seed=1,2"], "experiment=tune: full on mrpc: runs=4: allowed is 2, one for each"),
        (["data.holdout=1.5"], "data.holdout=1.5: allowed is between 0 and 1, or null"),
    ],
)
def test_what_is_no_fair_search_is_refused_before_anything_runs(tmp_path, change, message):
    with pytest.raises(InputError) as caught:
        tune(["model=tiny_roberta", "data=miniature", UNFAIR, f"runs_dir={tmp_path}", *change])
    assert str(caught.value).startswith(message)
    assert not list(tmp_path.iterdir())


def test_methods_with_other_epochs_are_refused():
    grid = "experiment.grid=[{method: [full], trainer.epochs: [1]}, {method: [lora], trainer.epochs: [2]}]"
    with pytest.raises(InputError, match="lora on mrpc: trainer.epochs=2: allowed is 1, as for every method"):
        check_search(sweep.plan(["experiment=tune", "model=tiny_roberta", "data=miniature", grid]))


def test_a_search_is_no_table_of_results(tmp_path):
    small = ["model=tiny_roberta", "data=miniature", UNFAIR, f"runs_dir={tmp_path}"]
    with pytest.raises(InputError, match="data.holdout=0.2: its runs are scored on rows of train"):
        aggregate(["experiment=tune", *small])


def test_generated_data_choose_nothing(tmp_path, conf, capfd):
    before = snapshot(conf / "tuned")
    tune(
        [
            *SMALL,
            "experiment.final=null",
            f"runs_dir={tmp_path / 'runs'}",
            f"results_dir={tmp_path / 'results'}",
        ]
    )
    assert "data=miniature: its choices are not written" in capfd.readouterr().err
    assert snapshot(conf / "tuned") == before
