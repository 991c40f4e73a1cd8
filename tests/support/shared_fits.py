"""Small fits that processes share: imported by tests, and what torchrun runs: `shared_fits.py FOLDER CASE…`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch

from glue_harness.data.batching import tokenise
from glue_harness.data.sources import load_split
from glue_harness.distributed import is_first, join, leave, process_rank
from glue_harness.hardware import resolve_environment
from glue_harness.models.adapters import apply_method
from glue_harness.models.backbone import load_backbone, load_tokenizer
from glue_harness.sweeps.plan import plan
from glue_harness.training import trainer as trainer_room
from glue_harness.training.evaluation import logits_files
from glue_harness.training.run import run_once
from glue_harness.training.setup import Prepared

SMALL = ["model=tiny_roberta", "data=miniature", "trainer=fast", "trainer.precision=fp32", "rank=4"]
SMALL += ["trainer.epochs=2", "trainer.batch_size=8", "trainer.eval_batch_size=16", "task=rte"]
NO_DROPOUT = ["model.architecture.hidden_dropout_prob=0", "model.architecture.attention_probs_dropout_prob=0"]

# By name: rows to train on, rows of dev, overrides. 37 = 4 x 8 + 5 rows; of 33 = 4 x 8 + 1 the last batch leaves
# the second of two processes without a row. 33 dev rows in batches of 16 leave one over, 5 do not fill one.
CASES = {
    "ragged": (37, 33, ["method=edora"]),
    "one row": (33, 5, ["method=edora"]),
    "accumulated": (37, 32, ["method=edora", "trainer.device_batch_size=2"]),
    "accumulated, one row": (33, 1, ["method=lora", "trainer.device_batch_size=1"]),
    "uneven": (37, 33, ["method=edora", "trainer.batch_size=10", "trainer.device_batch_size=3"]),
    "regression": (33, 33, ["method=edora", "task=stsb"]),
    "paper": (37, 33, ["method=edora", "trainer=paper", "trainer.epochs=2", "trainer.batch_size=8"]),
    "full": (37, 33, ["method=full"]),
    "lora": (37, 33, ["method=lora"]),
    "dora": (37, 33, ["method=dora"]),
    "head_only": (37, 33, ["method=head_only"]),
    "deberta": (33, 33, ["method=edora", "model=tiny_deberta"]),
}


def fit_case(name, folder):
    """Train a case without dropout; the first process leaves in `folder` all that came of it, as result.npz."""
    train_rows, dev_rows, overrides = CASES[name]
    (cell,) = plan([*SMALL, *overrides, *NO_DROPOUT]).cells
    config = cell.config
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(config.model)
    train, dev = (
        tokenise(load_split(config.data, config.task, split), config.task, tokenizer, 64).select(range(rows))
        for split, rows in (("train", train_rows), ("validation", dev_rows))
    )
    backbone = load_backbone(config.model, config.task, config.seed)
    model, parameters = apply_method(backbone, config.model, config.method, config.seed)
    prepared = Prepared(model, parameters, train, dev, tokenizer, data_sha256={}, seconds=0.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    folder.mkdir(parents=True, exist_ok=True)
    trainer = trainer_room.build_trainer(prepared, config, cell.identity.environment, folder)
    trainer.train()
    if not is_first():
        return
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    np.savez(
        folder / "result.npz",
        losses=[entry["loss"] for entry in logged],
        gradient_norms=[entry["grad_norm"] for entry in logged],
        examples_seen=trainer.stopwatch.examples_seen,
        **{f"logits of epoch {epoch}": np.load(path) for epoch, path in logits_files(folder).items()},
        **{f"trained {name}": p.detach() for name, p in model.named_parameters() if p.requires_grad},
        **{f"moved {name}": model.get_parameter(name).detach() - start for name, start in before.items()},
    )


def spoil_second_process(how):
    """Have the second process's third step fail or give a loss of NaN."""
    step, loss = trainer_room.GlueTrainer.training_step, trainer_room.sum_loss

    def fail(self, *args, **kwargs):
        if process_rank() == 1 and self.state.global_step == 2:
            raise RuntimeError("planted in the second process")
        return step(self, *args, **kwargs)

    def spoil(outputs, labels, num_items_in_batch=None):
        spoiled = float("nan") if process_rank() == 1 and outputs["logits"].requires_grad else 1.0
        return loss(outputs, labels, num_items_in_batch) * spoiled

    if how == "fail":
        trainer_room.GlueTrainer.training_step = fail
    else:
        trainer_room.sum_loss = spoil


def main():
    folder, *cases = sys.argv[1:]
    if cases in (["fail"], ["diverge"]):
        spoil_second_process(cases[0])
        (cell,) = plan([*SMALL, "method=edora", f"runs_dir={folder}"]).cells
        ending = run_once(cell.config, cell.identity, show_progress=False)
        Path(folder, f"ending_{os.environ['RANK']}").write_text(ending.state)
        sys.exit(ending.state == "failed")
    (cell,) = plan(SMALL).cells
    join(resolve_environment(cell.config.trainer.precision).device)
    for case in cases:
        fit_case(case, Path(folder, case))
    leave()


if __name__ == "__main__":
    main()
