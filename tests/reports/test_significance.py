"""Two methods on the same rows: what is counted, drawn anew and tested."""

from math import comb

import numpy as np
import pytest
from datasets import Dataset

from glue_harness.errors import InputError
from glue_harness.evidence import files as evidence_files
from glue_harness.evidence.collect import collect
from glue_harness.io import write_together
from glue_harness.reports import significance
from glue_harness.reports.significance import Dev, compare, load_dev
from glue_harness.runs.record import Status
from glue_harness.sweeps import plan as sweep
from tests.support.planned_runs import make_cell, make_plan, make_record, write_run

LABELS = np.array([0, 1, 0, 1, 1, 1])
RIGHT = {  # which of the six rows a run gets right, by method and seed
    ("edora", 1): [1, 1, 1, 1, 1, 0],
    ("edora", 2): [1, 1, 1, 1, 1, 1],
    ("lora", 1): [0, 0, 0, 1, 1, 1],
    ("lora", 2): [1, 0, 0, 0, 0, 1],
}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Write runs with predictions of RTE, and plan them; return the overrides that name them."""
    cells = []
    for (method, seed), right in RIGHT.items():
        cell = make_cell("rte", method, seed=seed, epochs=1)
        folder = write_run(make_record(cell, scores=(np.mean(right),)), tmp_path / "runs")
        guesses = np.where(right, LABELS, 1 - LABELS)
        np.save(folder / "logits" / "epoch_1.npy", np.eye(2, dtype=np.float32)[guesses])
        cells.append(cell)
    plan = make_plan(cells, tmp_path)
    monkeypatch.setattr(sweep, "plan", lambda overrides: plan)
    monkeypatch.setattr(significance, "load_dev", lambda cell: Dev(cell, LABELS))
    return plan


@pytest.mark.usefixtures("runs")
def test_differences_rows_and_tests_as_by_hand(monkeypatch):
    monkeypatch.setattr(significance, "load_split", None)  # train is read only for runs that learnt nothing
    (line,) = [line for line in compare([]).splitlines() if line.startswith("| RTE")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["RTE (accuracy)", "EDoRA (r=16)", "LoRA (r=16)", "2"]
    first, second = (
        np.mean([np.mean(RIGHT[method, seed]) for seed in (1, 2)]) for method in ("edora", "lora")
    )
    assert float(cells[4]) == pytest.approx(100 * (first - second), abs=0.01)
    assert cells[6:8] == ["7", "1"]  # rows 1, 2, 3 and 2, 3, 4, 5; row 6
    p_values = [2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n for n, fewer in ((4, 1), (4, 0))]
    assert float(cells[8]) == pytest.approx(2 * min(p_values))  # of two tests the smallest counts twice


@pytest.mark.usefixtures("runs")
def test_the_interval_is_of_the_same_rows_drawn_for_all_runs(monkeypatch):
    (line,) = [line for line in compare([]).splitlines() if line.startswith("| RTE")]
    low, high = map(float, line.split("|")[6].split(" to "))
    generator = np.random.default_rng(1)
    right = {key: np.array(values) for key, values in RIGHT.items()}
    gaps = sum(right["edora", seed] - right["lora", seed] for seed in (1, 2)) / 2  # (rows,)
    drawn = 100 * gaps[generator.integers(0, 6, (100_000, 6))].mean(axis=1)
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=2.0)


def test_other_data_are_refused(runs, monkeypatch):
    monkeypatch.setattr(significance, "load_dev", lambda cell: Dev(cell, LABELS[:5]))
    with pytest.raises(
        InputError, match="rte: 6 stored predictions for 5 dev rows; allowed is the data that"
    ):
        compare([])


def test_without_two_methods_it_is_one_line(runs, monkeypatch):
    runs.cells[:] = [cell for cell in runs.cells if cell.identity.method == "lora"]
    with pytest.raises(InputError, match="no finished runs of edora beside another method's"):
        compare([])


def test_a_filter_takes_a_part_and_leaves_the_evidence_of_the_rest(runs, tmp_path, monkeypatch):
    folder = tmp_path / "results" / runs.name
    write_together(folder, evidence_files.encode(collect(runs, tmp_path / "runs", folder)))
    part = make_plan([cell for cell in runs.cells if cell.config.seed == 1], tmp_path)
    monkeypatch.setattr(sweep, "plan", lambda overrides: part if overrides else runs)
    (line,) = [line for line in compare(["only.seed=[1]"]).splitlines() if line.startswith("| RTE")]
    assert line.split("|")[4].strip() == "1"


@pytest.mark.usefixtures("runs")
def test_it_writes_nothing(tmp_path):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    compare([])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_rows_are_paired_as_in_the_table_of_differences(tmp_path, monkeypatch):
    cells = [make_cell("rte", method, rank, epochs=1) for method in ("edora", "lora") for rank in (4, 16)]
    for cell in cells:
        folder = write_run(make_record(cell, scores=(1.0,)), tmp_path / "runs")
        np.save(folder / "logits" / "epoch_1.npy", np.eye(2, dtype=np.float32)[LABELS])
    monkeypatch.setattr(sweep, "plan", lambda overrides: make_plan(cells, tmp_path))
    monkeypatch.setattr(significance, "load_dev", lambda cell: Dev(cell, LABELS))
    lines = [line.split("|")[2:4] for line in compare([]).splitlines() if line.startswith("| RTE")]
    assert [[side.strip() for side in line] for line in lines] == [
        ["EDoRA (r=4)", "LoRA (r=4)"],
        ["EDoRA (r=16)", "LoRA (r=16)"],
    ]


def test_a_run_that_has_learnt_nothing_is_the_majority_class_in_every_column(tmp_path, monkeypatch):
    """EDoRA's first run says 0 of every row, right of two; its second diverged; four of six labels are 1."""
    taught = {1: np.array([1, 1, 0, 1, 1, 1]), 2: LABELS}
    records = {
        ("edora", 1): {"scores": (2 / 6,), "degenerate": (1,)},
        ("edora", 2): {"scores": (), "status": Status.DIVERGED},
        **{("lora", seed): {"scores": (np.mean(guesses == LABELS),)} for seed, guesses in taught.items()},
    }
    cells = []
    for (method, seed), changes in records.items():
        cell = make_cell("rte", method, seed=seed, epochs=1)
        folder = write_run(make_record(cell, majority_score=4 / 6, **changes), tmp_path / "runs")
        guesses = taught[seed] if method == "lora" else np.zeros(6, dtype=int)
        if changes["scores"]:
            np.save(folder / "logits" / "epoch_1.npy", np.eye(2, dtype=np.float32)[guesses])
        cells.append(cell)
    monkeypatch.setattr(sweep, "plan", lambda overrides: make_plan(cells, tmp_path))
    monkeypatch.setattr(significance, "load_dev", lambda cell: Dev(cell, LABELS))
    train = Dataset.from_dict({"label": [1, 1, 0]})
    monkeypatch.setattr(significance, "load_split", lambda data, task, name: train)
    table = compare([])
    (line,) = [line for line in table.splitlines() if line.startswith("| RTE")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert (cells[3], cells[4]) == ("2", "-25.00")  # 4/6 - 5/6 and 4/6 - 6/6
    low, high = map(float, cells[5].split(" to "))
    assert low < -25 < high
    assert cells[6:8] == ["0", "3"]
    assert "counts as the majority class throughout" in table


def test_the_majority_class_is_trains(monkeypatch):
    splits = {"train": [1, 1, 0], "validation": [0, 0, 0, 1]}
    monkeypatch.setattr(
        significance, "load_split", lambda data, task, name: Dataset.from_dict({"label": splits[name]})
    )
    dev = load_dev(make_cell("rte"))
    assert (dev.labels.tolist(), dev.majority.tolist()) == ([0, 0, 0, 1], [1, 1, 1, 1])
    splits = {"train": [5.0, 1.0], "validation": [2.5, 0.0]}
    assert load_dev(make_cell("stsb")).majority.tolist() == [0.0, 0.0]
