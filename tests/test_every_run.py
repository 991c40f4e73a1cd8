"""A full training run of every method for every task, on both architectures: in minutes, on miniature data."""

import itertools
import math

import pytest

from glue_harness.errors import choices
from glue_harness.miniature import TASKS
from glue_harness.records import Status
from glue_harness.run import run_once
from glue_harness.sweep import plan

METHODS = choices("method")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_roberta", "tiny_deberta"])
@pytest.mark.parametrize(("task", "method"), list(itertools.product(TASKS, METHODS)))
def test_every_method_trains_on_every_task(model, task, method, tmp_path):
    overrides = [f"model={model}", f"task={task}", f"method={method}", "data=miniature", "trainer=fast"]
    if (model, method) == ("tiny_deberta", "vera"):
        overrides += ["trainer.precision=fp32"]  # conf/method/vera.yaml says why
    (cell,) = plan([*overrides, "trainer.epochs=1", "rank=4", f"runs_dir={tmp_path}"]).cells
    ending = run_once(cell.config, cell.identity, show_progress=False)
    assert ending.state == Status.COMPLETE, ending.message
    (epoch,) = cell.record().epochs
    assert math.isfinite(epoch.train_loss)
    assert set(epoch.metrics["all"]) == set(cell.config.task.metrics)
    assert ("mismatched" in epoch.metrics) == (task == "mnli")
