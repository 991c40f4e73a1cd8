import shutil
from dataclasses import replace

import numpy as np
import pytest

from glue_harness.cli.main import main
from glue_harness.errors import InputError
from glue_harness.evidence import files as evidence_files
from glue_harness.evidence import restore
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.collect import collect, describe_run
from glue_harness.io import write_together
from glue_harness.runs.record import RECORD_NAME, Status, read_record
from glue_harness.sweeps import plan as sweep
from tests.support.planned_runs import GPU, make_cell, make_plan, make_record, write_run


@pytest.fixture
def cells():
    return [
        make_cell(task, seed=seed, environment=GPU, epochs=4)
        for task in ("rte", "stsb")
        for seed in (1, 2, 3)
    ]


@pytest.fixture
def plan(cells, tmp_path):
    """A plan whose evidence is committed: complete, failed and diverged runs of two tasks."""
    undefined = {"rte": 0.5, "stsb": None}
    for cell, status in zip(cells, [*Status, *Status], strict=True):
        write_run(
            make_record(cell, scores=(0.7, undefined[cell.config.task.name], 0.8, 0.75), status=status),
            tmp_path / "runs",
        )
    planned = make_plan(cells, tmp_path)
    collected = collect(planned, tmp_path / "runs", tmp_path / "results")
    write_together(tmp_path / "results" / "demo", evidence_files.encode(collected))
    return planned


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("task", ["rte", "cola", "stsb"])
def test_a_record_becomes_rows_and_the_same_record(tmp_path, task, status):
    record = make_record(make_cell(task, environment=GPU), status=status, degenerate=(2,))
    folder = write_run(record, tmp_path)
    collected = collect(make_plan([make_cell(task)], tmp_path), tmp_path, tmp_path / "results")
    (row,) = evidence.list_rows(collected.runs)
    rebuilt = restore.rebuild_record(make_cell(task), row, evidence.list_rows(collected.epochs))
    assert rebuilt == record == read_record(folder)
    assert describe_run(rebuilt, folder).row == describe_run(record, folder).row


def test_unknown_provenance_survives(tmp_path):
    provenance = make_record(make_cell(), commit=None).provenance.model_copy(
        update={"packages": {}, "data_sha256": {}, "weights_sha256": "f" * 64, "dirty": None}
    )
    record = make_record(make_cell(), status=Status.FAILED, provenance=provenance)
    row = describe_run(record, tmp_path).row
    collected = evidence.build_frame([row], evidence.RUN_COLUMNS)
    (row,) = evidence.list_rows(collected)
    assert restore.rebuild_record(make_cell(), row, []) == record


def test_a_fresh_clone_gets_its_finished_runs_back(plan, cells, tmp_path):
    fresh = tmp_path / "fresh"
    report = restore.restore(plan, tmp_path / "results" / "demo", fresh)
    assert (report.restored, report.present, report.refused) == (4, 0, [])
    for cell in cells:
        original = read_record(tmp_path / "runs" / cell.identity.folder)
        restored = read_record(fresh / cell.identity.folder)
        assert restored == (original if original.status is not Status.FAILED else None)
    kept = sorted(path.name for path in (fresh / cells[0].identity.folder / "logits").iterdir())
    assert kept == ["epoch_3.npy", "epoch_4.npy"]
    logits = np.load(fresh / cells[0].identity.folder / "logits" / "epoch_4.npy")
    original = np.load(tmp_path / "runs" / cells[0].identity.folder / "logits" / "epoch_4.npy")
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, original.astype(np.float16))


def test_restored_runs_give_the_same_evidence(plan, tmp_path):
    folder = tmp_path / "results" / "demo"
    before = {name: (folder / name).read_bytes() for name in evidence_files.FILES}
    restore.restore(plan, folder, tmp_path / "fresh")
    for results in (folder, tmp_path / "elsewhere"):
        collected = evidence_files.encode(collect(plan, tmp_path / "fresh", results))
        assert collected["predictions.npz"] == before["predictions.npz"]
    assert evidence_files.encode(collect(plan, tmp_path / "fresh", folder)) == before


def test_records_that_exist_are_left_alone(plan, cells, tmp_path):
    path = tmp_path / "runs" / cells[0].identity.folder / RECORD_NAME
    before = path.read_bytes()
    shutil.rmtree(path.parent / "logits")
    report = restore.restore(plan, tmp_path / "results" / "demo", tmp_path / "runs")
    assert (report.restored, report.present) == (0, 4)
    assert path.read_bytes() == before
    assert not (path.parent / "logits").exists()


@pytest.mark.parametrize(("name", "value"), [("processes", "2"), ("numerics", "99"), ("precision", "fp32")])
def test_a_row_that_is_not_of_its_configuration_is_refused(plan, cells, tmp_path, name, value):
    set_quoted(tmp_path / "results" / "demo" / "runs.csv", cells[0], name, value)
    report = restore.restore(plan, tmp_path / "results" / "demo", tmp_path / "fresh")
    assert report.restored == 3
    (line,) = report.refused
    identity = cells[0].identity
    place = f"runs.csv: cell {identity.cell_hash}, seed 1: config_hash={identity.config_hash}: allowed is "
    assert place in line
    assert not (tmp_path / "fresh" / identity.folder).exists()


def set_quoted(path, cell, name, value):
    """Plant a value through the evidence itself, since hardware names are quoted."""
    read = evidence_files.read(path.parent)
    chosen = (read.runs["cell"] == cell.identity.cell_hash) & (read.runs["seed"] == cell.identity.seed)
    runs = read.runs.copy()
    runs.loc[chosen, name] = int(value) if value.isdigit() else value
    write_together(path.parent, evidence_files.encode(replace(read, runs=runs)))


def test_a_part_of_the_plan_is_restored_without_a_word_about_the_rest(plan, cells, tmp_path):
    part = make_plan(cells[:1], tmp_path)
    shutil.rmtree(tmp_path / "runs")
    report = restore.restore(part, tmp_path / "results" / "demo", tmp_path / "runs", plan)
    assert report == restore.Report(restored=1, present=0, refused=[])


def test_no_evidence_is_an_error(plan, tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no evidence; allowed is a folder with runs\.csv"):
        restore.restore(plan, tmp_path / "nowhere", tmp_path / "fresh")


def test_the_entry_reports_in_one_line(plan, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "plan", lambda overrides: plan)
    shutil.rmtree(tmp_path / "runs")
    main(["restore", "experiment=demo"])
    assert capsys.readouterr().out == "restored 4 records, 0 already there\n"
    main(["restore", "experiment=demo"])
    assert capsys.readouterr().out == "restored 0 records, 4 already there\n"


def test_the_entry_fails_when_a_row_is_refused(plan, cells, tmp_path, monkeypatch, capsys):
    set_quoted(tmp_path / "results" / "demo" / "runs.csv", cells[0], "processes", "2")
    monkeypatch.setattr(sweep, "plan", lambda overrides: plan)
    with pytest.raises(SystemExit) as caught:
        main(["restore", "experiment=demo"])
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
