"""A pretrained encoder with a fresh head, and its tokenizer; knows nothing of adapters."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # else loading asks the hub for a conversion

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from glue_harness.config.schema import Model, Task
from glue_harness.data import miniature
from glue_harness.data.sources import check_hub_reachable
from glue_harness.errors import InputError
from glue_harness.models.packaged_weights import locate_files, sum_weights
from glue_harness.seeding import derive_seed

OTHER_MODELS = "model=minilm or mpnet (from the package index) or a model with random weights"


def load_backbone(model: Model, task: Task, seed: int) -> PreTrainedModel:
    """Return the encoder in float32 with a head for `task`, drawn from `seed` alone.

    The head is the same for every method and every source of weights: linear weights
    N(0, initializer_range^2), biases 0, as the architectures' own initialisation.

    Raises:
        InputError: the weights cannot be had, are not the pinned ones, or leave a module outside the head
            without weights.
    """
    config = build_config(model, task)
    if model.weights.source == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(model.weights.seed or 0)
            backbone = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    else:
        backbone, report = _load_pretrained(model, config)
        _check_only_head_missing(model, report["missing_keys"])
    _draw_head(backbone, model, seed)
    return backbone


def outline_backbone(model: Model, task: Task) -> PreTrainedModel:
    """Return the encoder with a head for `task` on the meta device: every shape, but no values."""
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(build_config(model, task), dtype=torch.float32)


def build_config(model: Model, task: Task) -> PretrainedConfig:
    """Return the architecture's configuration with an output for each label, or one for a regression."""
    kwargs = dict(model.architecture)
    labels = dict(enumerate(task.labels)) or {0: "score"}
    config_class = CONFIG_MAPPING[kwargs.pop("model_type")]
    return config_class(**kwargs, id2label=labels, label2id={name: i for i, name in labels.items()})


def is_head_parameter(name: str, head_modules: list[str]) -> bool:
    """Say whether a parameter, by its dotted name, belongs to the head."""
    return not set(name.split(".")).isdisjoint(head_modules)


def weights_sha256(model: Model) -> str | None:
    """Return the sha256 of the weights' file; None for random weights."""
    if model.weights.source == "random":
        return None
    if model.weights.source == "package":
        return sum_weights(locate_files(model) / "model.safetensors")
    from huggingface_hub import try_to_load_from_cache

    for name in ("model.safetensors", "pytorch_model.bin"):
        path = try_to_load_from_cache(str(model.weights.id), name, revision=model.weights.revision)
        if isinstance(path, str):
            blob = Path(path).resolve()  # the cache names a large file's blob by its sha256
            return blob.name if re.fullmatch("[0-9a-f]{64}", blob.name) else sum_weights(blob)
    return None


def check_weights(model: Model) -> None:
    """Make sure that the weights are to be had and are the pinned ones.

    Raises:
        InputError: a package is missing or holds other weights, or the hub is out of reach.
    """
    if model.weights.source == "package":
        locate_files(model)
    elif model.weights.source == "hub" and weights_sha256(model) is None:
        check_hub_reachable(f"model={model.name}", OTHER_MODELS)


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """Return the model's tokenizer, or the one trained on the miniature text for random weights."""
    if model.tokenizer == "miniature":
        return miniature_tokenizer(model.architecture["vocab_size"])
    if model.weights.source == "package":
        return AutoTokenizer.from_pretrained(locate_files(model))
    return _from_hub(model, functools.partial(_load_whole_tokenizer, model.architecture["vocab_size"]))


def _load_whole_tokenizer(embeddings: int, **pinned: Any) -> PreTrainedTokenizerBase:
    """Load a tokenizer; without a vocabulary transformers makes one of the special tokens alone.

    Raises:
        OSError: it has far fewer tokens than the model has embeddings (which may be some more than tokens).
    """
    tokenizer = AutoTokenizer.from_pretrained(**pinned)
    if len(tokenizer) < embeddings / 2:
        raise OSError(f"a vocabulary of {len(tokenizer)} tokens for {embeddings} embeddings")
    return tokenizer


@functools.cache
def miniature_tokenizer(vocab_size: int) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE tokenizer with RoBERTa's special tokens on the miniature text, in a second."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        miniature.corpus(), vocab_size=min(vocab_size, 1024), special_tokens=special, show_progress=False
    )
    bpe.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _load_pretrained(model: Model, config: PretrainedConfig) -> tuple[PreTrainedModel, dict[str, Any]]:
    load = functools.partial(
        AutoModelForSequenceClassification.from_pretrained,
        config=config,
        dtype=torch.float32,  # transformers 5 loads a checkpoint in its own dtype, a new head included
        output_loading_info=True,
    )
    if model.weights.source == "hub":
        return _from_hub(model, load)
    return load(locate_files(model))


def _from_hub(model: Model, load: Callable[..., Any]) -> Any:
    pinned = {"pretrained_model_name_or_path": model.weights.id, "revision": model.weights.revision}
    try:
        return load(**pinned, local_files_only=True)
    except (OSError, ValueError):  # ValueError: a file of several is there, another is not
        check_hub_reachable(f"model={model.name}", OTHER_MODELS)
    try:
        return load(**pinned)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        allowed = f"use {OTHER_MODELS}"
        raise InputError(f"model={model.name}: the hub did not give it ({reason}); {allowed}") from error


def _check_only_head_missing(model: Model, missing: set[str]) -> None:
    outside = sorted(name for name in missing if not is_head_parameter(name, model.head_modules))
    if outside:
        raise InputError(
            f"model={model.name}: the checkpoint lacks {outside[0]}; allowed to be new is only the head "
            f"({', '.join(model.head_modules)})"
        )


def _head_linears(backbone: nn.Module, model: Model) -> Iterator[nn.Linear]:
    for name, module in backbone.named_modules():
        if not is_head_parameter(name, model.head_modules) or not list(module.parameters(recurse=False)):
            continue
        if not isinstance(module, nn.Linear):
            raise InputError(f"model.head_modules: {name} is a {type(module).__name__}; allowed is Linear")
        yield module


def _draw_head(backbone: PreTrainedModel, model: Model, seed: int) -> None:
    generator = torch.Generator().manual_seed(derive_seed(seed, "head"))
    std = model.architecture["initializer_range"]
    with torch.no_grad():
        for linear in _head_linears(backbone, model):
            linear.weight.copy_(torch.normal(0.0, std, linear.weight.shape, generator=generator))
            linear.bias.zero_()
