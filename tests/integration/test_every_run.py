"""A full training run of every method for every task, on both architectures: in minutes, on miniature data."""

import itertools
import math

import pytest

from glue_harness.data.miniature import TASKS
from glue_harness.errors import choices
from glue_harness.hardware import has_bf16
from glue_harness.runs.record import Status
from glue_harness.sweeps.plan import plan
from glue_harness.training.run import run_once

METHODS = choices("method")
IN_FP32_ALONE = ("tiny_deberta", "vera")  # conf/method/vera.yaml says why


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_roberta", "tiny_deberta"])
@pytest.mark.parametrize(("task", "method"), list(itertools.product(TASKS, METHODS)))
def test_every_method_trains_on_every_task(model, task, method, tmp_path):
    overrides = [f"model={model}", f"task={task}", f"method={method}", "data=miniature", "trainer=fast"]
    if (model, method) == IN_FP32_ALONE:
        overrides += ["trainer.precision=fp32"]
    cell, (epoch,) = complete(*overrides, "trainer.epochs=1", "rank=4", f"runs_dir={tmp_path}")
    assert set(epoch.metrics["all"]) == set(cell.config.task.metrics)
    assert ("mismatched" in epoch.metrics) == (task == "mnli")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("method", [name for name in METHODS if ("tiny_deberta", name) != IN_FP32_ALONE])
def test_deberta_trains_in_both_precisions(method, precision, tmp_path, monkeypatch):
    """A loss or logits that are not finite would end the run as diverged."""
    is_emulated = precision == "bf16" and not has_bf16("cpu")  # at a fifth of the pace
    count = 1 if is_emulated else 3
    monkeypatch.setattr("glue_harness.hardware.has_bf16", lambda device: True)
    overrides = [f"method={method}", f"trainer.precision={precision}", "task=mrpc", "trainer=fast", "rank=4"]
    overrides += ["data=miniature", f"trainer.epochs={count}", f"runs_dir={tmp_path}"]
    _, epochs = complete("model=tiny_deberta", *overrides)
    assert len(epochs) == count


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_deberta_of_base_size_takes_a_few_steps(precision, tmp_path):
    if precision == "bf16" and not has_bf16("cpu"):
        pytest.skip("emulated, bf16 takes this size twelve minutes; the tiny model has it above")
    overrides = [
        "model=deberta_v3_base_random",
        "task=mrpc",
        "method=edora",
        f"trainer.precision={precision}",
    ]
    complete(*overrides, "data=miniature", "trainer=smoke", f"runs_dir={tmp_path}")


def complete(*overrides):
    """Run to the end; return the cell and its epochs, whose losses are numbers."""
    (cell,) = plan(list(overrides)).cells
    ending = run_once(cell.config, cell.identity, show_progress=False)
    assert ending.state == Status.COMPLETE, ending.message
    epochs = cell.record().epochs
    assert all(math.isfinite(epoch.train_loss) for epoch in epochs)
    return cell, epochs
