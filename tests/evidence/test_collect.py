import shutil
from dataclasses import replace

import numpy as np
import pytest

from glue_harness.errors import InputError
from glue_harness.evidence import files as evidence_files
from glue_harness.evidence.collect import collect, describe_settings
from glue_harness.evidence.schema import list_rows
from glue_harness.io import write_together
from glue_harness.runs.identity import hash_plan
from glue_harness.runs.record import RECORD_NAME, Status
from glue_harness.sweeps.grid import Cell
from tests.support.planned_runs import (
    GPU,
    make_cell,
    make_plan,
    make_provenance,
    make_record,
    write_run,
)


@pytest.fixture
def gather(tmp_path):
    """Collect planned cells from tmp_path/runs, with the evidence in tmp_path/results."""

    def run(*cells):
        return collect(make_plan(cells, tmp_path), tmp_path / "runs", tmp_path / "results")

    return run


def commit(collected, tmp_path):
    write_together(tmp_path / "results", evidence_files.encode(collected))


def statuses(collected):
    return list(collected.runs["status"])


def test_every_planned_run_has_a_row_in_grid_order(gather, tmp_path):
    cells = [make_cell(task, method, seed=seed) for method in ("lora", "full") for task in ("rte", "cola")
             for seed in (2, 1)]  # fmt: skip
    write_run(make_record(cells[1]), tmp_path / "runs")
    write_run(make_record(cells[2], status=Status.FAILED), tmp_path / "runs")
    write_run(make_record(cells[3], status=Status.DIVERGED), tmp_path / "runs")
    rows = list_rows(gather(*cells).runs)
    assert [(row["label"], row["task"], row["seed"], row["status"]) for row in rows] == [
        ("lora_r16", "rte", 2, "missing"),
        ("lora_r16", "rte", 1, "complete"),
        ("lora_r16", "cola", 2, "failed"),
        ("lora_r16", "cola", 1, "diverged"),
        ("full", "rte", 2, "missing"),
        ("full", "rte", 1, "missing"),
        ("full", "cola", 2, "missing"),
        ("full", "cola", 1, "missing"),
    ]
    assert [row["headline"] for row in rows[:4]] == ["accuracy"] * 2 + ["matthews_correlation"] * 2


def test_a_run_of_another_environment_counts(gather, tmp_path):
    write_run(make_record(make_cell(environment=GPU)), tmp_path / "runs")
    row = list_rows(gather(make_cell()).runs)[0]
    assert (row["status"], row["device"], row["threads"]) == ("complete", "cuda", None)
    assert row["config_hash"] == make_cell(environment=GPU).identity.config_hash


def test_a_run_of_other_settings_or_seed_does_not_count(gather, tmp_path):
    write_run(make_record(make_cell(learning_rate=2e-3)), tmp_path / "runs")
    write_run(make_record(make_cell(seed=2)), tmp_path / "runs")
    assert statuses(gather(make_cell())) == ["missing"]


def test_this_machines_own_run_is_preferred_to_a_newer_one(gather, tmp_path):
    newer = make_provenance(started_at="2027-01-01T00:00:00+00:00")
    write_run(make_record(make_cell()), tmp_path / "runs")
    write_run(make_record(make_cell(environment=GPU), provenance=newer), tmp_path / "runs")
    assert list(gather(make_cell()).runs["device"]) == ["cpu"]


def test_the_newest_of_other_machines_is_preferred(gather, tmp_path):
    for processes, day in ((2, "03"), (4, "09"), (8, "05")):
        cell = make_cell(environment=GPU.model_copy(update={"processes": processes}))
        when = make_provenance(started_at=f"2026-11-{day}T00:00:00+00:00")
        write_run(make_record(cell, provenance=when), tmp_path / "runs")
    assert list(gather(make_cell()).runs["processes"]) == [4]


def test_a_complete_run_elsewhere_is_preferred_to_an_own_failed_one(gather, tmp_path):
    write_run(make_record(make_cell(), status=Status.FAILED), tmp_path / "runs")
    write_run(make_record(make_cell(environment=GPU)), tmp_path / "runs")
    assert statuses(gather(make_cell())) == ["complete"]


def test_committed_evidence_without_runs_is_rewritten_to_the_same_bytes(gather, tmp_path):
    cells = [make_cell(task, seed=seed, epochs=3) for task in ("rte", "stsb") for seed in (1, 2, 3, 4)]
    for cell, status in zip(cells, (*Status, Status.COMPLETE, *Status), strict=False):
        write_run(make_record(cell, status=status, scores=(0.7, 0.9, 0.8)), tmp_path / "runs")
    first = evidence_files.encode(gather(*cells))
    commit(gather(*cells), tmp_path)
    shutil.rmtree(tmp_path / "runs")
    elsewhere = [replace(cell, environment=GPU) for cell in cells]
    assert evidence_files.encode(gather(*elsewhere)) == first


@pytest.mark.parametrize("later", [None, Status.FAILED, Status.DIVERGED])
def test_complete_evidence_is_never_replaced_by_less(gather, tmp_path, later):
    folder = write_run(make_record(make_cell()), tmp_path / "runs")
    commit(gather(make_cell()), tmp_path)
    (folder / RECORD_NAME).unlink()
    if later:
        write_run(make_record(make_cell(), status=later), tmp_path / "runs")
    collected = gather(make_cell())
    assert statuses(collected) == ["complete"]
    assert len(collected.predictions) == 1


def test_a_new_complete_record_replaces_the_evidence(gather, tmp_path):
    write_run(make_record(make_cell(epochs=1), scores=(0.6,), commit="a" * 40), tmp_path / "runs")
    commit(gather(make_cell(epochs=1)), tmp_path)
    write_run(make_record(make_cell(epochs=1), scores=(0.9,), commit="b" * 40), tmp_path / "runs")
    collected = gather(make_cell(epochs=1))
    assert list(collected.runs["commit"]) == ["b" * 40]
    assert 0.9 in list(collected.epochs["value"])
    assert 0.6 not in list(collected.epochs["value"])


def test_committed_runs_that_are_no_longer_planned_are_never_dropped_in_silence(gather, tmp_path):
    cells = [make_cell(seed=seed) for seed in (1, 2, 3)]
    for cell in cells[:2]:
        write_run(make_record(cell), tmp_path / "runs")
    commit(gather(*cells), tmp_path)
    shutil.rmtree(tmp_path / "runs")
    assert statuses(gather(*cells)) == ["complete", "complete", "missing"]
    with pytest.raises(InputError, match="holds 1 runs that are not planned now; allowed is"):
        gather(cells[1])


def test_a_failure_that_is_no_longer_planned_lapses(gather, tmp_path):
    """A trial of a search failed, and was given up when it was tried again."""
    cells = [make_cell(seed=seed) for seed in (1, 2)]
    write_run(make_record(cells[0], status=Status.FAILED), tmp_path / "runs")
    write_run(make_record(cells[1]), tmp_path / "runs")
    commit(gather(*cells), tmp_path)
    assert statuses(gather(cells[1])) == ["complete"]


def test_a_missing_runs_headline_follows_the_plan(gather, tmp_path):
    commit(gather(make_cell("cola")), tmp_path)
    cell = make_cell("cola")
    cell.config.task.headline = "accuracy"
    assert list(gather(cell).runs["headline"]) == ["accuracy"]


def test_records_of_two_headlines_in_one_task_are_an_error(gather, tmp_path):
    write_run(make_record(make_cell("cola")), tmp_path / "runs")
    write_run(make_record(make_cell("cola", seed=2), headline="accuracy"), tmp_path / "runs")
    with pytest.raises(
        InputError, match=r"runs\.csv: row 2: headline=accuracy: allowed is one metric a task"
    ):
        gather(make_cell("cola"), make_cell("cola", seed=2))


def test_logits_that_are_gone_or_damaged_are_an_error(gather, tmp_path):
    folder = write_run(make_record(make_cell()), tmp_path / "runs")
    path = folder / "logits" / "epoch_2.npy"
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(InputError, match=r"epoch_2\.npy: not readable"):
        gather(make_cell())
    path.unlink()
    with pytest.raises(InputError, match=r"epoch_2\.npy: not readable"):
        gather(make_cell())


def test_logits_are_kept_in_row_order(gather, tmp_path):
    folder = write_run(make_record(make_cell()), tmp_path / "runs")
    (logits,) = gather(make_cell()).predictions.values()
    np.testing.assert_array_equal(logits, np.load(folder / "logits" / "epoch_2.npy").astype(np.float16))


def settings_of(*cells):
    described = describe_settings(cells)
    return [described[cell.identity.cell_hash] for cell in cells]


def with_trainer(cell, name, padding):
    trainer = replace(cell.config.trainer, name=name, padding=padding)
    config = replace(cell.config, trainer=trainer)
    return replace(cell, config=config, cell_hash=hash_plan(config))


def test_a_trainers_name_stands_for_all_that_it_sets():
    fast, paper = (
        with_trainer(make_cell(), *names) for names in (("fast", "batch"), ("paper", "max_length"))
    )
    assert settings_of(fast, paper, make_cell("cola")) == ["trainer=fast", "trainer=paper", "trainer=fast"]
    other = make_cell(learning_rate=0.5)
    assert settings_of(fast, paper, other)[1] == "trainer.learning_rate=0.001 trainer.padding=max_length"


def test_settings_name_what_differs_within_a_task():
    cells = [make_cell(learning_rate=rate, epochs=n) for rate, n in ((1e-3, 2), (5e-4, 2), (5e-4, 3))]
    assert settings_of(*cells) == [
        "trainer.epochs=2 trainer.learning_rate=0.001",
        "trainer.epochs=2 trainer.learning_rate=0.0005",
        "trainer.epochs=3 trainer.learning_rate=0.0005",
    ]


def test_settings_that_differ_between_tasks_or_labels_only_are_not_named():
    cells = [make_cell("rte", learning_rate=1e-3), make_cell("cola", learning_rate=5e-4)]
    assert settings_of(*cells, make_cell("rte", "dora", learning_rate=1e-4)) == [None, None, None]


def test_a_setting_that_differs_in_one_task_is_named_in_all():
    cells = [make_cell("rte", learning_rate=1e-3), make_cell("rte", learning_rate=2e-3), make_cell("cola")]
    rates = ["trainer.learning_rate=0.001", "trainer.learning_rate=0.002", "trainer.learning_rate=0.001"]
    assert settings_of(*cells) == rates


def test_evidence_is_collected_on_a_machine_that_could_not_make_the_runs(tmp_path, monkeypatch):
    """The runs were made with `trainer.precision=bf16`; this machine has no bf16."""
    elsewhere = make_cell(environment=GPU)
    config = replace(elsewhere.config, trainer=replace(elsewhere.config.trainer, precision="bf16"))
    cell = Cell((), config, hash_plan(config))
    write_run(make_record(elsewhere, identity=cell.identify_on(GPU)), tmp_path / "runs")
    monkeypatch.setattr("glue_harness.hardware.has_bf16", lambda device: False)
    with pytest.raises(InputError, match="no bf16"):
        _ = cell.identity
    collected = collect(make_plan([cell], tmp_path), tmp_path / "runs", tmp_path / "results" / "demo")
    assert statuses(collected) == ["complete"]


def test_an_error_of_any_length_is_read_back(gather, tmp_path):
    record = make_record(make_cell(), status=Status.FAILED, error="missing keys: " + "x" * 200_000)
    write_run(record, tmp_path / "runs")
    commit(gather(make_cell()), tmp_path)
    shutil.rmtree(tmp_path / "runs")
    assert statuses(gather(make_cell())) == ["failed"]
