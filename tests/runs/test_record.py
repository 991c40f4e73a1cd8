import json
import os

import pytest

from glue_harness.errors import InputError
from glue_harness.hardware import Environment, resolve_environment
from glue_harness.io import write_atomically
from glue_harness.runs.identity import ADAPTER_NUMERICS, NUMERICS, identify
from glue_harness.runs.record import RECORD_NAME, read_record, write_record
from glue_harness.training.run import record_failure

CPU = Environment(device="cpu", precision="fp32", threads=1, processes=1)


def identity_of(config, environment=CPU):
    return identify(config, environment)


@pytest.mark.parametrize(
    "override",
    [
        "trainer.learning_rate=0.5",
        "trainer.epochs=7",
        "trainer.eval_batch_size=7",
        "trainer.weight_decay=0.5",
        "rank=8",
        "method=dora",
        "method.adapter.init_std=1e-4",
        "task=rte",
        "model=tiny_deberta",
        "model.weights.seed=5",
        "data=hub",
        "data.holdout=0.2",
    ],
)
def test_whatever_can_change_the_result_is_another_folder(build_config, override):
    base, changed = (
        identity_of(build_config("method=edora")),
        identity_of(build_config("method=edora", override)),
    )
    assert base.config_hash != changed.config_hash
    assert base.folder != changed.folder


@pytest.mark.parametrize(
    "override",
    [
        *("runs_dir=elsewhere", "results_dir=elsewhere", "protocol=paper_last", "launcher=basic"),
        *("tracking=wandb", "launcher.runs_per_gpu=2", "checkpoint_minutes=1"),
    ],
)
def test_what_cannot_is_the_same_folder(build_config, override):
    assert identity_of(build_config()).folder == identity_of(build_config(override)).folder


def test_a_seed_has_its_own_folder_under_one_hash(build_config):
    first, second = identity_of(build_config("seed=1")), identity_of(build_config("seed=2"))
    assert first.config_hash == second.config_hash
    assert (first.folder.name, second.folder.name) == ("seed1", "seed2")


def test_methods_without_a_rank_ignore_it(build_config):
    assert identity_of(build_config("method=full", "rank=8")) == identity_of(
        build_config("method=full", "rank=16")
    )


@pytest.mark.parametrize(
    "change", [{"device": "cuda"}, {"precision": "bf16"}, {"threads": 2}, {"processes": 2}]
)
def test_the_machines_part_changes_the_run_but_not_the_plan(build_config, change):
    config = build_config()
    here, there = identity_of(config), identity_of(config, CPU.model_copy(update=change))
    assert here.config_hash != there.config_hash
    assert here.cell_hash == there.cell_hash


def test_numerics_change_the_run_but_not_the_plan(build_config):
    identity = identity_of(build_config())
    bumped = identity.model_copy(update={"numerics": identity.numerics + 1})
    assert identity.config_hash != bumped.config_hash
    assert identity.cell_hash == bumped.cell_hash


def test_an_adapter_package_s_numerics_touch_the_runs_that_use_it_alone(build_config, monkeypatch):
    methods = ("edora", "lora_xs", "dora_factored", "lora", "dora", "full")
    before = {method: identity_of(build_config(f"method={method}")).numerics for method in methods}
    monkeypatch.setitem(ADAPTER_NUMERICS, "edora", ADAPTER_NUMERICS["edora"] + 1)
    after = {method: identity_of(build_config(f"method={method}")).numerics for method in methods}
    assert {method for method in methods if after[method] != before[method]} == {
        "edora",
        "lora_xs",
        "dora_factored",
    }
    assert before["full"] == before["lora"] == NUMERICS


def test_an_option_added_later_leaves_earlier_hashes_alone(build_config):
    identity = identity_of(build_config())
    later = identity.model_copy(update={"planned": identity.planned | {"option": None}})
    assert identity.config_hash == later.config_hash


def failed_record(config, tmp_path):
    identity = identify(config, resolve_environment(config.trainer.precision))
    record_failure(config, identity, "planted")
    return tmp_path / identity.folder


def test_a_record_reads_back_as_it_was_written(build_config, tmp_path):
    folder = failed_record(build_config(f"runs_dir={tmp_path}"), tmp_path)
    record = read_record(folder)
    write_record(record, tmp_path / "copy")
    assert read_record(tmp_path / "copy") == record
    assert (tmp_path / "copy" / RECORD_NAME).read_bytes() == (folder / RECORD_NAME).read_bytes()


def test_no_record_is_none(tmp_path):
    assert read_record(tmp_path) is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda record: "{", "not a run record"),
        (lambda record: "[]", "not a run record; allowed is"),
        (lambda record: json.dumps(record | {"schema_version": 99}), "schema_version=99: allowed is 1"),
        (lambda record: json.dumps(record | {"status": "fine"}), "status: Input should be 'complete'"),
        (lambda record: json.dumps(record | {"extra": 1}), "extra: Extra inputs are not permitted"),
        (
            lambda record: json.dumps(record).replace('"planted"', "NaN"),
            "error: Input should be a valid string",
        ),
    ],
)
def test_a_spoilt_record_is_one_line(build_config, tmp_path, spoil, message):
    path = failed_record(build_config(f"runs_dir={tmp_path}"), tmp_path) / RECORD_NAME
    path.write_text(spoil(json.loads(path.read_text())))
    with pytest.raises(InputError, match=message) as caught:
        read_record(path.parent)
    assert "\n" not in str(caught.value)


def test_an_interrupted_write_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full_disk(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(InputError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_staged_run_has_no_identity_without_its_source(build_config):
    """Else it would go by the name of the run that starts from scratch."""
    config = build_config("task=rte", "init_from=mnli")
    with pytest.raises(ValueError, match="init_from=mnli: the run it starts from has to be identified too"):
        identity_of(config)
    source = identity_of(build_config("task=mnli"))
    assert identify(config, CPU, source.cell_hash).planned["init_from"] == f"mnli@{source.cell_hash}"
