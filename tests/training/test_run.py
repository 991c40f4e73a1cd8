import math

import pytest
import torch

from glue_harness.errors import InputError
from glue_harness.hardware import resolve_environment
from glue_harness.reports.build import aggregate
from glue_harness.runs.identity import identify
from glue_harness.runs.record import Status, read_record
from glue_harness.sweeps.grid import Cell
from glue_harness.sweeps.plan import plan
from glue_harness.training import run
from glue_harness.training import setup as preparation
from glue_harness.training.checkpoints import CHECKPOINTS
from glue_harness.training.run import run_once
from glue_harness.training.setup import check_inputs
from glue_harness.training.trainer import GlueTrainer

SMALL = [
    "model=tiny_roberta",
    "data=miniature",
    "task=rte",
    "trainer=fast",
    "trainer.epochs=3",
    "method=edora",
]


def one_cell(*overrides: str) -> Cell:
    (cell,) = plan([*SMALL, *overrides]).cells
    return cell


@pytest.fixture
def spoil_weights(monkeypatch):
    """Return a function that makes the loss infinite from a given epoch on."""

    def spoil(epoch: int) -> None:
        step = GlueTrainer.training_step

        def training_step(self, model, inputs, *args, **kwargs):
            if (self.state.epoch or 0) >= epoch - 1:
                with torch.no_grad():
                    model.get_input_embeddings().weight[:] = math.inf
            return step(self, model, inputs, *args, **kwargs)

        monkeypatch.setattr(GlueTrainer, "training_step", training_step)

    return spoil


def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    whole = one_cell(f"runs_dir={tmp_path / 'whole'}")
    run_once(whole.config, whole.identity, show_progress=False)
    cell = one_cell(f"runs_dir={tmp_path / 'interrupted'}")
    save = GlueTrainer._save_checkpoint

    def interrupt(self, model, trial):
        save(self, model, trial)
        raise KeyboardInterrupt

    monkeypatch.setattr(GlueTrainer, "_save_checkpoint", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_once(cell.config, cell.identity, show_progress=False)
    assert cell.record() is None
    assert list((cell.folder / CHECKPOINTS).iterdir())
    monkeypatch.setattr(GlueTrainer, "_save_checkpoint", save)
    assert run_once(cell.config, cell.identity, show_progress=False).state == Status.COMPLETE
    assert cell.record().epochs == whole.record().epochs
    assert cell.record().cost.train_examples_per_second > 0
    assert not (cell.folder / CHECKPOINTS).exists()


@pytest.mark.parametrize(("epoch", "kept"), [(2, [1]), (1, [])])
def test_a_diverged_run_keeps_its_epochs_and_blocks_no_table(tmp_path, spoil_weights, epoch, kept):
    spoil_weights(epoch)
    overrides = [*SMALL, f"runs_dir={tmp_path / 'runs'}", f"results_dir={tmp_path / 'results'}"]
    overrides += ["experiment.name=planted", "experiment.grid=[{seed: [1]}]"]
    (cell,) = plan(overrides).cells
    ending = run_once(cell.config, cell.identity, show_progress=False)
    assert ending.state == Status.DIVERGED
    assert "loss is nan at step" in ending.message
    assert f", epoch {epoch}" in ending.message
    record = cell.record()
    assert [scored.epoch for scored in record.epochs] == kept
    assert (record.cost.train_examples_per_second is None) == (not kept)
    assert record.majority_score == 0.5
    assert not (cell.folder / CHECKPOINTS).exists()
    assert "50.0 ‡1" in aggregate(overrides)
    assert run_once(cell.config, cell.identity, show_progress=False).state == "skipped"


def test_bad_input_writes_nothing_at_all(tmp_path):
    cell = one_cell("method.adapter.target_modules=[nix]", f"runs_dir={tmp_path / 'runs'}")
    with pytest.raises(InputError, match="nix"):
        run_once(cell.config, cell.identity, show_progress=False)
    assert not (tmp_path / "runs").exists()


def test_a_failure_is_recorded_and_tried_again(tmp_path, monkeypatch):
    cell = one_cell(f"runs_dir={tmp_path}", "trainer.max_steps=1")
    with monkeypatch.context() as patch:
        patch.setattr(run, "fit", lambda *args: 1 / 0)
        assert run_once(cell.config, cell.identity, show_progress=False).state == Status.FAILED
    assert "ZeroDivisionError" in cell.record().error
    assert run_once(cell.config, cell.identity, show_progress=False).state == Status.COMPLETE


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=local", "data.root=/nowhere"], "data.root=/nowhere: there is no such folder"),
        (["model=minilm", "model.weights.sha256=0"], "allowed is 0"),
        (["+method.adapter.nix=1"], "nix"),
    ],
)
def test_a_sweeps_inputs_are_checked_before_it_starts(overrides, message):
    with pytest.raises(InputError, match=message):
        check_inputs([one_cell(*overrides).config])


@pytest.mark.parametrize("cached", [False, True])
def test_a_sweep_fetches_what_the_hub_has_before_it_starts(monkeypatch, cached):
    fetched = []
    monkeypatch.setattr(preparation, "check_weights", lambda model: None)
    monkeypatch.setattr(preparation, "weights_sha256", lambda model: "0" if cached else None)
    monkeypatch.setattr(
        preparation, "load_tokenizer", lambda model: fetched.append(f"tokenizer of {model.name}")
    )
    monkeypatch.setattr(
        preparation, "load_backbone", lambda model, task, seed: fetched.append(f"weights of {model.name}")
    )
    configs = [one_cell("model=roberta_base", "data=miniature", f"seed={seed}").config for seed in (1, 2)]
    check_inputs(configs)
    assert fetched == ["tokenizer of roberta_base", "weights of roberta_base"][: 1 if cached else 2]


ADAPTERS = ["dora_factored", "lora_xs", "lora_qv", "edora_random", "magnitude_only", "vera", "ia3"]


@pytest.mark.parametrize("method", [*ADAPTERS, "head_only"])
def test_a_run_of_each_method(build_config, tmp_path, method):
    config = build_config(
        f"method={method}", "task=rte", "rank=4", "trainer.max_steps=2", f"runs_dir={tmp_path}"
    )
    identity = identify(config, resolve_environment(config.trainer.precision))
    state, message, _ = run_once(config, identity, show_progress=False)
    assert state == Status.COMPLETE, message
    record = read_record(tmp_path / identity.folder)
    assert (record.parameters.adapter > 0) == (method in ADAPTERS)
    assert (tmp_path / identity.folder / "adapter").exists() == (method in ADAPTERS)
