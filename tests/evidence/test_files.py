import csv
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from glue_harness.errors import InputError
from glue_harness.evidence import files as evidence_files
from glue_harness.evidence import schema as evidence
from glue_harness.evidence import validation as evidence_check
from glue_harness.evidence.collect import collect
from glue_harness.io import write_together
from glue_harness.runs.record import Status
from tests.support.planned_runs import make_cell, make_plan, make_record, write_run


@pytest.fixture
def committed(tmp_path):
    """The results folder of four runs: complete, diverged, failed and missing."""
    cells = [make_cell(seed=seed, epochs=3) for seed in (1, 2, 3, 4)]
    runs_dir = tmp_path / "runs"
    write_run(make_record(cells[0], scores=(0.1 + 0.2, 0.8, 0.7)), runs_dir)
    write_run(make_record(cells[1], status=Status.DIVERGED, scores=(0.6,)), runs_dir)
    write_run(make_record(cells[2], status=Status.FAILED), runs_dir)
    folder = tmp_path / "results"
    write_together(folder, evidence_files.encode(collect(make_plan(cells, tmp_path), runs_dir, folder)))
    return folder


def test_what_is_written_is_what_is_read(committed):
    again = evidence_files.encode(evidence_files.read(committed))
    assert again == {name: (committed / name).read_bytes() for name in evidence_files.FILES}


def test_floats_integers_and_unknowns_survive(committed):
    runs = evidence.list_rows(evidence_files.read(committed).runs)
    assert [run["status"] for run in runs] == ["complete", "diverged", "failed", "missing"]
    assert runs[0]["train_seconds"] == 0.1 + 0.2
    assert runs[0]["peak_memory_bytes"] == 2**60 + 1
    assert runs[0]["dirty"] is False
    assert runs[3]["dirty"] is None
    assert runs[3]["learning_rate"] == 1e-3  # planned, though it has not run
    assert b",0.30000000000000004\n" in (committed / "epochs.csv").read_bytes()


def test_a_run_is_one_line(committed):
    assert len((committed / "runs.csv").read_text().splitlines()) == 5


def test_predictions_are_float16_of_the_selectable_epochs(committed):
    read = evidence_files.read(committed)
    cell = read.runs["cell"][0]
    # 0.3, 0.8, 0.7: the best on every part is epoch 2, the last 3
    assert sorted(read.predictions) == [f"{cell}/seed1/epoch_2", f"{cell}/seed1/epoch_3"]
    assert {array.dtype for array in read.predictions.values()} == {np.dtype(np.float16)}


def test_predictions_have_the_same_bytes_whatever_the_order_and_the_day(committed, monkeypatch):
    read = evidence_files.read(committed)
    turned = dict(reversed(list(read.predictions.items())))
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert evidence_files.encode(replace(read, predictions=turned)) == evidence_files.encode(read)
    entries = zipfile.ZipFile(committed / "predictions.npz").infolist()
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {(entry.date_time[0], entry.create_system) for entry in entries} == {(1980, 3)}


def test_best_epoch_is_the_earliest_of_equals_and_undefined_is_lowest():
    assert evidence.best_epoch({1: 0.5, 2: 0.7, 3: 0.7}) == 2
    assert evidence.best_epoch({3: 0.7, 2: 0.7}) == 2
    assert evidence.best_epoch({1: None, 2: -0.3}) == 2
    assert evidence.best_epoch({1: None, 2: None}) == 1


def test_kept_epochs_are_the_last_and_the_best_of_each_part():
    curves = {"all": [0.5, 0.9, 0.1, 0.2], "even": [0.9, 0.5, 0.1, 0.2], "odd": [0.1, 0.5, 0.9, 0.2]}
    rows = [
        {"epoch": epoch, "part": part, "metric": metric, "value": value}
        for part, values in curves.items()
        for epoch, value in enumerate(values, start=1)
        for metric in ("accuracy", "f1")
    ]
    assert evidence.select_kept_epochs(rows, "accuracy") == [1, 2, 3, 4]
    assert evidence.select_kept_epochs([r for r in rows if r["part"] == "all"], "accuracy") == [2, 4]


def test_no_evidence_is_none_and_half_of_it_an_error(committed):
    assert evidence_files.read(committed.parent / "nothing") is None
    (committed / "epochs.csv").unlink()
    with pytest.raises(InputError, match=r"epochs\.csv: is missing; allowed is all of"):
        evidence_files.read(committed)


def replace_text(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def set_field(path, row, name, value):
    """Plant a value in a CSV file."""
    lines = list(csv.reader(path.read_text().splitlines()))
    lines[row][lines[0].index(name)] = value
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


@pytest.mark.parametrize(
    ("row", "name", "value", "message"),
    [
        (1, "rank", "16.5", r"runs\.csv: row 1: rank=16\.5: allowed is a whole number or nothing"),
        (1, "head_parameters", "9" * 30, r"row 1: head_parameters=9+: allowed is a whole number"),
        (2, "majority_score", "nan", r"row 2: majority_score=nan: allowed is a finite number or nothing"),
        (2, "majority_score", "", r"row 2: majority_score=: allowed is a value, since the run is diverged"),
        (1, "learning_rate", "fast", r"row 1: learning_rate=fast: allowed is a finite number"),
        (1, "status", "done", r"row 1: status=done: allowed is one of complete, failed, diverged, missing"),
        (1, "config_hash", "", r"row 1: config_hash=: allowed is a value"),
        (1, "evaluated_epochs", "0", r"row 1: evaluated_epochs=0: allowed is 3, as planned"),
        (2, "seed", "1", r"row 2: cell, seed=\w+, 1: allowed is one row a run"),
        (
            4,
            "headline",
            "f1",
            r"row 4: headline=f1: allowed is one metric a task, an earlier row of rte has accuracy",
        ),
        (
            1,
            "evaluated_epochs",
            "2",
            r"row 1: evaluated_epochs=2: allowed is 3, as planned, since the run is",
        ),
        (2, "evaluated_epochs", "4", r"epochs\.csv: cell \w+, seed 2: epoch=\[1\]: allowed is 1 to 4"),
        (1, "majority_score", "5.0", r"row 1: majority_score=5\.0: allowed is -1 to 1"),
        (1, "train_seconds", "-5.0", r"row 1: train_seconds=-5\.0: allowed is 0 or more"),
        (1, "seed", "-1", r"runs\.csv: row 1: seed=-1: allowed is 0 or more"),
    ],
)
def test_a_planted_fault_in_runs_is_named(committed, row, name, value, message):
    set_field(committed / "runs.csv", row, name, value)
    with pytest.raises(InputError, match=message) as caught:
        evidence_files.read(committed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("all,accuracy,0.8\n", "all,accuracy,nan\n", r"epochs\.csv: row \d+: value=nan: allowed is a finite"),
        ("all,accuracy,0.8\n", "all,accuracy,inf\n", r"value=inf: allowed is a finite"),
        ("all,accuracy,0.8\n", "all,accuracy\n", r"row \d+: fields=8: allowed is 9"),
        ("all,accuracy,0.8\n", 'all,"accuracy,0.8\n', r"epochs\.csv: not readable"),
        (
            "all,accuracy,0.8\n",
            "odd,accuracy,0.8\n",
            r"odd accuracy of epoch 2 stands twice; allowed is one row a value",
        ),
        (
            "all,accuracy,0.8\n",
            "all,accuracy,80.0\n",
            r"epochs\.csv: row \d+: accuracy=80\.0: allowed is 0 to 1",
        ),
        ("all,accuracy,0.8\n", "all,accuracy,-0.5\n", r"row \d+: accuracy=-0\.5: allowed is 0 to 1"),
        ("all,accuracy,0.8\n", "all,accuracy,\n", r"row \d+: accuracy=: allowed is 0 to 1"),
        (
            "all,accuracy,0.8\n",
            "all,accuracy,0.99\n",
            r"epoch 2=0\.99: allowed is 0\.8, as its even \(0\.81\) and",
        ),
        ("all,degenerate,0.0\n", "all,degenerate,7.0\n", r"row \d+: degenerate=7\.0: allowed is 0 to 1"),
        ("all,accuracy,0.8\n", "all,f1,0.8\n", r"all accuracy of epoch 2 is missing"),
        (",value\n", ",score\n", r"epochs\.csv: column value is missing; allowed is model, task"),
        (",value\n", ",value,more\n", r"epochs\.csv: column more is unknown"),
    ],
)
def test_a_planted_fault_in_epochs_is_named(committed, old, new, message):
    replace_text(committed / "epochs.csv", old, new)
    with pytest.raises(InputError, match=message) as caught:
        evidence_files.read(committed)
    assert "\n" not in str(caught.value)


def test_epochs_of_no_run_are_named(committed):
    replace_text(committed / "epochs.csv", ",2,1,", ",9,1,", count=-1)
    set_field(committed / "runs.csv", 2, "evaluated_epochs", "0")
    with pytest.raises(InputError, match=r"epochs\.csv: cell, seed=\w+, 9: allowed is a run of runs\.csv"):
        evidence_files.read(committed)


@pytest.mark.parametrize("name", ["runs.csv", "epochs.csv", "predictions.npz"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_file_cut_short_is_never_read(committed, name, share):
    content = (committed / name).read_bytes()
    (committed / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=name) as caught:
        evidence_files.read(committed)
    assert "\n" not in str(caught.value)


def test_whole_lines_cut_off_are_noticed(committed):
    for name in ("epochs.csv", "runs.csv"):
        content = (committed / name).read_text()
        (committed / name).write_text("".join(content.splitlines(keepends=True)[:-3]))
        with pytest.raises(InputError, match=r"epochs\.csv"):
            evidence_files.read(committed)
        (committed / name).write_text(content)


def test_a_last_line_without_its_end_is_cut_short(committed):
    path = committed / "epochs.csv"
    path.write_text(path.read_text()[:-2])  # 0.59 becomes 0.5
    with pytest.raises(InputError, match=r"row \d+: is cut short"):
        evidence_files.read(committed)


def test_a_mark_of_byte_order_changes_nothing_and_an_empty_file_lacks_its_columns(committed):
    path = committed / "runs.csv"
    first = evidence_files.encode(evidence_files.read(committed))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert evidence_files.encode(evidence_files.read(committed)) == first
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"runs\.csv: column model is missing; allowed is model, task"):
        evidence_files.read(committed)


def test_predictions_of_a_complete_run_must_be_there(committed):
    read = evidence_files.read(committed)
    key = next(iter(read.predictions))
    for planted in ({}, {key: np.zeros((6, 2), np.float32)}, {key: np.zeros(6, np.float16)}):
        with pytest.raises(InputError, match=rf"predictions\.npz: {key}=.*allowed is float16"):
            evidence_check.check(replace(read, predictions=planted), committed)


def test_predictions_that_cannot_be_are_named(committed):
    read = evidence_files.read(committed)
    (first, *_), (array, *_) = read.predictions.keys(), read.predictions.values()
    plants = {
        rf"{first}=not all finite: allowed is finite logits": {first: np.full_like(array, np.nan)},
        r"foo/seedx/epoch_1: of no epoch that a protocol selects": {"foo/seedx/epoch_1": array},
        r"shape=\(5, 2\): allowed is \(6, 2\)": {sorted(read.predictions)[-1]: array[:5]},
    }
    for message, planted in plants.items():
        with pytest.raises(InputError, match=message):
            evidence_check.check(replace(read, predictions=read.predictions | planted), committed)


def test_a_perfect_score_may_be_rounded_up(tmp_path):
    cell, score = make_cell("cola", epochs=1), 1 + 2**-52
    write_run(make_record(cell, scores=(score,)), tmp_path / "runs")
    collected = collect(make_plan([cell], tmp_path), tmp_path / "runs", tmp_path / "results")
    assert score in set(collected.epochs["value"])


@pytest.mark.parametrize(
    ("field", "value", "known"),
    [
        ("adapter_parameters", "12", "1622016"),
        ("data_sha256", "train=f00d", "train=100 rows validation=abc"),
        ("weights_sha256", "f00d", "None"),
    ],
)
def test_complete_runs_have_the_same_parameters_data_and_weights(tmp_path, field, value, known):
    cells = [make_cell(seed=seed) for seed in (1, 2)]
    for cell in cells:
        write_run(make_record(cell), tmp_path / "runs")
    folder = tmp_path / "results"
    write_together(
        folder, evidence_files.encode(collect(make_plan(cells, tmp_path), tmp_path / "runs", folder))
    )
    set_field(folder / "runs.csv", 2, field, value)
    with pytest.raises(InputError, match=f"row 2: {field}={value}: allowed is {known}, as an earlier run"):
        evidence_files.read(folder)


def test_methods_are_compared_on_the_same_data_only(tmp_path):
    cells = [make_cell(method=method) for method in ("lora", "edora")]
    for cell, train in zip(cells, ("old", "new"), strict=True):
        record = make_record(cell)
        provenance = record.provenance.model_copy(update={"data_sha256": {"train": train}})
        write_run(record.model_copy(update={"provenance": provenance}), tmp_path / "runs")
    message = "row 2: data_sha256=train=new: allowed is train=old, as an earlier run"
    with pytest.raises(InputError, match=message):
        collect(make_plan(cells, tmp_path), tmp_path / "runs", tmp_path / "results")


def test_a_column_that_no_run_uses_is_not_written_and_one_that_is_reads_back(committed, tmp_path):
    """Evidence from before the column existed stays as it is, byte by byte."""
    assert "init_from" not in (committed / "runs.csv").read_text().splitlines()[0].split(",")
    read = evidence_files.read(committed)
    assert read.runs["init_from"].isna().all()
    staged = read.runs.assign(init_from=["mnli"] * 4)
    write_together(tmp_path / "staged", evidence_files.encode(replace(read, runs=staged)))
    again = evidence.list_rows(evidence_files.read(tmp_path / "staged").runs)
    assert [row["init_from"] for row in again] == ["mnli"] * 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",fast,", ",paper,", r"row 4: trainer=paper: allowed is fast, as an earlier run of cell \w+ has"),
        (",0.0005,", ",0.5,", r"row 4: head_learning_rate=0\.5: allowed is 0\.0005, as an earlier run"),
    ],
)
def test_two_ways_of_training_in_one_cell_are_named(committed, old, new, message):
    *lines, last = (committed / "runs.csv").read_text().splitlines(keepends=True)
    assert old in last
    (committed / "runs.csv").write_text("".join([*lines, last.replace(old, new)]))
    with pytest.raises(InputError, match=message):
        evidence_files.read(committed)
