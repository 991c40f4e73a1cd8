"""What a run needs before it can begin: data, backbone and method, put together and checked."""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from collections.abc import Sequence

import torch
import transformers
from torch import nn
from transformers import PreTrainedTokenizerBase

from glue_harness import hardware
from glue_harness.config.schema import Config, run_splits
from glue_harness.data.batching import TokenisedSplit, tokenise
from glue_harness.data.fingerprint import fingerprint
from glue_harness.data.sources import divide, load_split
from glue_harness.models.adapters import apply_method, build_adapter
from glue_harness.models.backbone import check_weights, load_backbone, load_tokenizer, weights_sha256
from glue_harness.models.warm_start import start_from_source
from glue_harness.runs.identity import Identity
from glue_harness.runs.record import Parameters


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a run has before it begins: the adapted model, its tokenised rows, and what they were made of."""

    model: nn.Module
    parameters: Parameters
    train: TokenisedSplit
    dev: TokenisedSplit
    tokenizer: PreTrainedTokenizerBase
    data_sha256: dict[str, str]
    seconds: float


def prepare(config: Config, identity: Identity) -> Prepared:
    """Load data and backbone and apply the method: all that can fail for its input does so here."""
    begin = time.perf_counter()
    _quieten_libraries()
    hardware.keep_freed_memory()
    if identity.environment.threads is not None:
        torch.set_num_threads(identity.environment.threads)
        os.environ["OMP_NUM_THREADS"] = "1"  # unset, accelerate takes every core under torchrun
    hardware.require_one_gpu(identity.environment)
    hardware.forbid_tf32()
    build_adapter(config.method)  # a wrong argument fails before anything is loaded
    tokenizer = load_tokenizer(config.model)
    names = run_splits(config.task, config.data.holdout)
    splits = {name: load_split(config.data, config.task, name) for name in names}
    train_rows, dev_rows, parts = divide(splits, config.task, config.data.holdout)
    backbone = load_backbone(config.model, config.task, config.seed)
    model, parameters = apply_method(backbone, config.model, config.method, config.seed)
    start_from_source(model, config, identity)
    return Prepared(
        model=model,
        parameters=parameters,
        train=tokenise(train_rows, config.task, tokenizer, config.trainer.max_length),
        dev=tokenise(dev_rows, config.task, tokenizer, config.trainer.max_length, parts),
        tokenizer=tokenizer,
        data_sha256={name: fingerprint(rows, config.task) for name, rows in splits.items()},
        seconds=time.perf_counter() - begin,
    )


def check_inputs(configs: Sequence[Config]) -> None:
    """Check once, before a sweep starts, all that its runs read: data, weights, constructor calls.

    What the hub has and this machine's cache has not is fetched: the runs' machines may not reach the hub.

    Raises:
        InputError: what one of the runs would find out.
    """
    for config in {(c.task.name, c.data.name, c.data.holdout): c for c in configs}.values():
        for split in run_splits(config.task, config.data.holdout):
            load_split(config.data, config.task, split)
    for config in {c.model.name: c for c in configs}.values():
        check_weights(config.model)
        if config.model.weights.source == "hub":
            load_tokenizer(config.model)
            if weights_sha256(config.model) is None:
                load_backbone(config.model, config.task, config.seed)
    for config in {c.method.label: c for c in configs}.values():
        build_adapter(config.method)


def _quieten_libraries() -> None:
    """Leave the screen to the run's own bar: what a library merely remarks is not the user's business."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|accelerate")
