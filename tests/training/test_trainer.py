import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from glue_harness.data.batching import tokenise
from glue_harness.data.sources import load_split
from glue_harness.errors import InputError
from glue_harness.hardware import Environment, forbid_tf32, resolve_environment
from glue_harness.models.adapters import apply_method
from glue_harness.models.backbone import load_backbone, load_tokenizer
from glue_harness.runs.identity import identify
from glue_harness.training import callbacks
from glue_harness.training.arguments import count_warmup_steps, micro_batch_size, training_arguments
from glue_harness.training.checkpoints import CHECKPOINTS
from glue_harness.training.evaluation import logits_files
from glue_harness.training.setup import Prepared
from glue_harness.training.trainer import GlueTrainer, build_optimizer, build_trainer, fit, sum_loss

CPU = Environment(device="cpu", precision="fp32", threads=1, processes=1)


def prepare_rows(config, train_rows=64, dev_rows=32):
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(config.model)
    train, dev = (
        tokenise(load_split(config.data, config.task, split), config.task, tokenizer, 64)
        for split in ("train", "validation")
    )
    backbone = load_backbone(config.model, config.task, config.seed)
    model, parameters = apply_method(backbone, config.model, config.method, config.seed)
    splits = train.select(range(train_rows)), dev.select(range(dev_rows))
    return Prepared(model, parameters, *splits, tokenizer, data_sha256={}, seconds=0.0)


def train(config, folder, environment=CPU, **rows):
    prepared = prepare_rows(config, **rows)
    return fit(prepared, config, identify(config, environment), folder, show_progress=False)


NO_DROPOUT = ["model.architecture.hidden_dropout_prob=0", "model.architecture.attention_probs_dropout_prob=0"]


def first_gradient_norm(config, folder, rows):
    """Train one step with a huge clip and return the norm that Trainer saw."""
    trainer = build_trainer(prepare_rows(config, train_rows=rows), config, CPU, folder)
    trainer.train()
    return trainer.state.log_history[0]["grad_norm"]


@pytest.mark.parametrize("task", ["mrpc", "stsb"])
def test_gradient_does_not_depend_on_how_the_batch_is_split(build_config, tmp_path, task):
    """Left to itself, Trainer doubles it at 2x4: it takes the encoders' loss for one that is scaled already."""
    norms = {}
    for micro in (8, 4, 5, 3):
        rows = 8 if micro != 3 else 6
        config = build_config(
            f"task={task}",
            f"trainer.batch_size={rows}",
            f"trainer.device_batch_size={micro}",
            "trainer.max_steps=1",
            "trainer.max_grad_norm=1e6",
            *NO_DROPOUT,
        )
        norms[micro] = first_gradient_norm(config, tmp_path / str(micro), rows)
    assert norms[4] == pytest.approx(norms[8], rel=1e-5)
    assert norms[5] == pytest.approx(norms[8], rel=1e-5)
    whole = build_config(f"task={task}", "trainer.batch_size=6", "trainer.max_steps=1", *NO_DROPOUT)
    whole.trainer.max_grad_norm = 1e6
    assert norms[3] == pytest.approx(first_gradient_norm(whole, tmp_path / "whole", 6), rel=1e-5)


def test_loss_is_the_mean_over_the_accumulated_batch():
    logits, labels = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([1, 1])
    by_hand = math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(2.0))
    assert sum_loss({"logits": logits}, labels).item() == pytest.approx(by_hand / 2)
    assert sum_loss({"logits": logits}, labels, torch.tensor(4)).item() == pytest.approx(by_hand / 4)
    scores, targets = torch.tensor([[1.0], [4.0]]), torch.tensor([3.0, 3.0])
    assert sum_loss({"logits": scores}, targets).item() == pytest.approx((4 + 1) / 2)


def test_paper_has_the_authors_optimiser_and_schedule(build_config, tmp_path):
    """The authors' main_glue.py:732-761: AdamW, decay 0.01 on all, int(0.06 N) warm-up steps, then linear to 0."""
    config = build_config("trainer=paper", "trainer.max_length=64", "trainer.epochs=4")
    trainer = build_trainer(prepare_rows(config, train_rows=500), config, CPU, tmp_path)
    steps = 4 * math.ceil(500 / 32)
    trainer.create_scheduler(steps)
    assert trainer.args.warmup_steps == int(0.06 * steps) == 3
    assert trainer.args.max_grad_norm == 1.0
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.01}
    assert trainer.optimizer.defaults["betas"] == (0.9, 0.999)
    assert trainer.optimizer.defaults["eps"] == 1e-8
    rates = []
    for _ in range(steps):
        rates.append(trainer.lr_scheduler.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    expected = [1e-3 * (i / 3 if i < 3 else (steps - i) / (steps - 3)) for i in range(steps)]
    assert rates == pytest.approx(expected)
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["input_ids"].shape == (32, 64)


def test_warm_up_is_a_share_or_a_number_of_steps(build_config):
    share, number, none = (
        build_config("trainer.warmup_share=0.06", f"trainer.warmup_steps={steps}").trainer
        for steps in ("null", 7, 0)
    )
    assert [count_warmup_steps(settings, 50) for settings in (share, number, none)] == [3, 7, 0]
    config = build_config("trainer.warmup_steps=7")
    arguments = training_arguments(config, CPU, 8, 8, Path("unused"))
    assert arguments.warmup_steps == 7


def test_every_trained_parameter_is_in_the_optimiser_once(build_config):
    config = build_config("method=edora")
    model = prepare_rows(config).model
    held = [p for group in build_optimizer(model, config).param_groups for p in group["params"]]
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sorted(map(id, held)) == sorted(map(id, trained))


@pytest.mark.parametrize("method", ["edora", "full"])
def test_the_fused_optimiser_takes_the_same_steps(build_config, method):
    """Beside torch's AdamW of one operation after the other, as the authors' code has it."""
    trained = []
    for choice in ("true", "null"):
        config = build_config(f"method={method}", f"trainer.fused_optimizer={choice}")
        model = prepare_rows(config).model
        optimizer = build_optimizer(model, config)
        assert bool(optimizer.defaults["fused"]) == (choice == "true")
        generator = torch.Generator().manual_seed(0)
        parameters = [p for p in model.parameters() if p.requires_grad]
        for _ in range(5):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
        trained.append(parameters)
    for fused, plain in zip(*trained, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-7)


def test_logits_are_in_the_splits_own_order(build_config, tmp_path):
    config = build_config("trainer.max_steps=1")
    prepared = prepare_rows(config)
    model, dev, tokenizer = prepared.model, prepared.dev, prepared.tokenizer
    fit(prepared, config, identify(config, CPU), tmp_path, show_progress=False)
    stored = np.load(logits_files(tmp_path)[1])
    model.eval()
    with torch.no_grad():
        batches = [tokenizer.pad(dev[i] | {"labels": None}, return_tensors=None) for i in range(len(dev))]
        alone = [model(torch.tensor([batch["input_ids"]])).logits[0].numpy() for batch in batches]
    np.testing.assert_allclose(stored, np.array(alone), atol=1e-5)


def test_every_epoch_is_scored_and_kept(build_config, tmp_path):
    config = build_config("trainer=fast", "trainer.epochs=3")
    outcome = train(config, tmp_path)
    assert [epoch.epoch for epoch in outcome.epochs] == [1, 2, 3]
    assert all(set(epoch.metrics) == {"all", "even", "odd"} for epoch in outcome.epochs)
    assert all(epoch.train_loss is not None for epoch in outcome.epochs)
    assert outcome.examples_seen == 3 * 64


def test_same_seed_same_bits_other_seed_other_bits(build_config, tmp_path):
    def logits(seed, folder):
        train(build_config("trainer=fast", "trainer.epochs=2", f"seed={seed}"), tmp_path / folder)
        return np.load(logits_files(tmp_path / folder)[2])

    first = logits(1, "a")
    np.testing.assert_array_equal(first, logits(1, "b"))
    assert not np.array_equal(first, logits(2, "c"))


def test_a_loss_that_is_not_finite_stops_the_run_at_once(build_config, tmp_path):
    config = build_config("trainer=fast")
    prepared = prepare_rows(config)
    with torch.no_grad():
        prepared.model.get_input_embeddings().weight[5:] = math.inf
    outcome = fit(prepared, config, identify(config, CPU), tmp_path, show_progress=False)
    assert outcome.diverged == "loss is nan at step 1, epoch 1"
    assert outcome.epochs == []


def test_an_empty_share_adds_nothing_to_the_loss_and_has_a_gradient():
    logits = torch.tensor([[0.0, 1.0]], requires_grad=True)
    for labels in (torch.empty(0, dtype=torch.long), torch.empty(0)):
        outputs = {"logits": logits if labels.dtype == torch.long else logits[:, :1]}
        loss = sum_loss(outputs, labels, torch.tensor(3.0))
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, logits)
        assert not gradient.any()


@pytest.mark.parametrize(
    ("batch", "device_batch", "processes", "micro", "accumulation"),
    [
        (32, None, 1, 32, 1),
        (32, 8, 2, 8, 2),
        (10, 4, 1, 4, 3),
        (10, None, 4, 3, 1),
        (10, 3, 2, 3, 2),
        (2, None, 4, 1, 1),
    ],
)
def test_any_batch_can_be_cut(build_config, batch, device_batch, processes, micro, accumulation):
    config = build_config(
        f"trainer.batch_size={batch}", f"trainer.device_batch_size={device_batch or 'null'}"
    )
    layout = CPU.model_copy(update={"processes": processes})
    assert micro_batch_size(config, layout) == micro
    assert (
        training_arguments(config, layout, 8, micro, Path("unused")).gradient_accumulation_steps
        == accumulation
    )


def test_bf16_is_demanded_only_of_hardware_that_has_it(build_config, monkeypatch):
    config = build_config("trainer.precision=bf16")
    monkeypatch.setattr("glue_harness.hardware.has_bf16", lambda device: False)
    with pytest.raises(InputError, match=r"trainer\.precision=bf16: this \w+ has no bf16"):
        resolve_environment(config.trainer.precision)
    assert resolve_environment("auto").precision == "fp32"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_is_the_configuration_s_not_accelerate_s(build_config, monkeypatch, precision):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    config = build_config(f"trainer.precision={precision}")
    environment = CPU.model_copy(update={"precision": precision})
    arguments = training_arguments(config, environment, 8, 8, Path("unused"))
    assert arguments.mixed_precision == {"fp32": "no", "bf16": "bf16"}[precision]


@pytest.mark.parametrize(
    ("name", "value"),
    [("ACCELERATE_USE_FSDP", "true"), ("ACCELERATE_USE_CPU", "1"), ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")],
)
def test_what_accelerate_would_do_otherwise_is_refused(build_config, monkeypatch, name, value):
    config = build_config()
    monkeypatch.setenv(name, "no")
    resolve_environment(config.trainer.precision)
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"^{name}={value}: allowed is that it is not set"):
        resolve_environment(config.trainer.precision)


def test_fp32_is_not_tf32():
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    forbid_tf32()
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", False)


def test_a_killed_run_goes_on_to_the_same_bits(build_config, tmp_path):
    """SIGKILL in the middle of writing the second checkpoint: the run goes on from the first."""
    overrides = ("trainer=fast", "trainer.epochs=3", "method=edora")
    config = build_config(*overrides)
    whole = train(config, tmp_path / "whole")
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.support.composed import compose_run
from tests.training import test_trainer
from glue_harness.training import trainer
saves = 0
save, fsync = trainer.GlueTrainer._save_checkpoint, os.fsync
def count_saves(self, model, trial):
    global saves
    saves += 1
    save(self, model, trial)
def kill_in_the_second_save(handle):
    if saves == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)
trainer.GlueTrainer._save_checkpoint, os.fsync = count_saves, kill_in_the_second_save
test_trainer.train(compose_run(*{overrides!r}), trainer.Path({str(tmp_path / "killed")!r}))
"""
    child = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": "src"}, check=False
    )
    assert child.returncode == -signal.SIGKILL
    checkpoints = list((tmp_path / "killed" / CHECKPOINTS).glob("checkpoint-*"))
    assert len(checkpoints) == 1
    first_epoch = logits_files(tmp_path / "killed")[1].stat().st_mtime_ns
    resumed = train(config, tmp_path / "killed")
    assert logits_files(tmp_path / "killed")[1].stat().st_mtime_ns == first_epoch
    for epoch in (1, 2, 3):
        np.testing.assert_array_equal(
            np.load(logits_files(tmp_path / "killed")[epoch]),
            np.load(logits_files(tmp_path / "whole")[epoch]),
        )
    assert resumed.epochs == whole.epochs
    assert resumed.examples_seen == whole.examples_seen == 3 * 64
    assert resumed.train_seconds > 0


def test_a_run_goes_on_within_an_epoch(build_config, tmp_path, monkeypatch):
    """Stopped in its twelfth step, the fourth of an epoch, with a checkpoint after each step within epochs."""
    settings = ["trainer=fast", "trainer.epochs=3", "trainer.batch_size=8", "trainer.device_batch_size=4"]
    config = build_config(*settings, "method=edora", "checkpoint_minutes=0")
    whole = train(build_config(*settings, "method=edora", "checkpoint_minutes=null"), tmp_path / "whole")
    begun = []

    def count_or_stop(self, *arguments, step=GlueTrainer.training_step, **named):
        begun.append(self.state.global_step)
        if 10 in begun and begun.count(11) == 2:
            raise RuntimeError("planted")
        return step(self, *arguments, **named)

    monkeypatch.setattr(GlueTrainer, "training_step", count_or_stop)
    peaks = [2**32, 2**31]
    monkeypatch.setattr("glue_harness.hardware.peak_memory_bytes", lambda: peaks[0])
    begin = time.perf_counter()
    with pytest.raises(RuntimeError, match="planted"):
        train(config, tmp_path / "stopped")
    taken = time.perf_counter() - begin
    (checkpoint,) = (tmp_path / "stopped" / CHECKPOINTS).iterdir()
    assert checkpoint.name == "checkpoint-11"
    begun.clear()
    del peaks[0]
    resumed = train(config, tmp_path / "stopped")
    assert (whole.earlier_seconds, resumed.peak_memory_bytes) == (0, 2**32)
    assert 0 < resumed.earlier_seconds < taken
    assert begun == [step for step in range(11, 24) for _ in range(2)]
    for epoch in (1, 2, 3):
        stopped, undisturbed = (logits_files(tmp_path / name)[epoch] for name in ("stopped", "whole"))
        assert stopped.read_bytes() == undisturbed.read_bytes()
    assert resumed.epochs == whole.epochs
    assert resumed.examples_seen == whole.examples_seen == 3 * 64


def test_a_checkpoint_within_an_epoch_is_made_once_the_last_is_old(build_config, tmp_path, monkeypatch):
    """A step takes a minute here."""
    saved = []
    monkeypatch.setattr(
        GlueTrainer, "_save_checkpoint", lambda self, *_: saved.append(self.state.global_step)
    )
    config = build_config("trainer=fast", "trainer.epochs=2", "trainer.batch_size=4")
    trainer = build_trainer(prepare_rows(config, train_rows=40), config, CPU, tmp_path)
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: 60.0 * trainer.state.global_step)
    trainer.add_callback(callbacks.CheckpointTimer(4))
    trainer.train()
    assert saved == [4, 8, 10, 14, 18, 20]  # of these, 10 and 20 are the ends of epochs


def test_the_training_loss_is_the_mean_over_an_epochs_steps(build_config, tmp_path):
    config = build_config("trainer=fast", "trainer.epochs=2", "trainer.batch_size=8")
    trainer = build_trainer(prepare_rows(config, train_rows=36), config, CPU, tmp_path)
    trainer.train()
    logged = [
        entry["loss"] for entry in trainer.state.log_history if "loss" in entry
    ]  # Trainer's own, in float32
    assert trainer.epoch_loss.finished == pytest.approx(logged, rel=1e-6)
    assert len(logged) == 2


def test_logits_of_an_attempt_without_a_checkpoint_are_not_scored(build_config, tmp_path):
    config = build_config("trainer.max_steps=1")
    (tmp_path / "logits").mkdir()
    np.save(tmp_path / "logits" / "epoch_9.npy", np.zeros((32, 2), np.float32))
    assert [epoch.epoch for epoch in train(config, tmp_path).epochs] == [1]
