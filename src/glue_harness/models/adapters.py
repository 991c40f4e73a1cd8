"""Apply a method to a backbone, and count what it trains."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterable
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTuner
from torch import nn
from transformers import PreTrainedModel

from glue_harness.config.schema import Method, Model, Trainer
from glue_harness.errors import InputError
from glue_harness.models.backbone import is_head_parameter
from glue_harness.runs.record import Parameters
from glue_harness.seeding import derive_seed

MAGNITUDE_MARK = "magnitude"
"""What EDoRA's and PEFT's DoRA's magnitudes have in their parameters' names."""


def build_adapter(method: Method) -> PeftConfig | None:
    """Make the method's constructor call; None for a method without an adapter.

    Raises:
        InputError: the class does not exist, or refuses an argument.
    """
    if method.adapter is None:
        return None
    arguments: dict[str, Any] = copy.deepcopy(method.adapter)  # PEFT appends to the lists it is given
    target = arguments.pop("_target_", "")
    module, _, name = target.rpartition(".")
    try:
        adapter = getattr(importlib.import_module(module), name)(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"method.adapter ({target}): {reason}") from error
    if not isinstance(adapter, PeftConfig):
        raise InputError(f"method.adapter._target_={target}: allowed is a PEFT configuration class")
    return adapter


def apply_method(
    backbone: PreTrainedModel, model: Model, method: Method, seed: int
) -> tuple[nn.Module, Parameters]:
    """Return the model that `method` trains, and its parameter counts.

    Every method is the same call: without an adapter the backbone trains whole, or its head alone; any other
    is PEFT's own `get_peft_model`. The adapter is drawn from `seed` alone.

    Raises:
        InputError: the adapter's targets match nothing, or not the layers they should.
    """
    adapter = build_adapter(method)
    backbone_count = _count(backbone, head=False, head_modules=model.head_modules)
    adapted: nn.Module = backbone
    if adapter is None:
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad = method.train_backbone or is_head_parameter(name, model.head_modules)
    else:
        torch.manual_seed(derive_seed(seed, "adapter"))
        try:
            adapted = get_peft_model(backbone, adapter)
        except (TypeError, ValueError) as error:
            targets = (method.adapter or {}).get("target_modules")
            reason = " ".join(str(error).split())
            raise InputError(f"method={method.name}, target_modules={targets}: {reason}") from error
        _check_targets(adapted, model, adapter)
    trained = {
        part: _count(adapted, head=part == "head", head_modules=model.head_modules, trained=True)
        for part in ("adapter", "head")
    }
    return adapted, Parameters(**trained, total=sum(trained.values()), backbone=backbone_count)


def parameter_groups(model: nn.Module, head_modules: list[str], trainer: Trainer) -> list[dict[str, Any]]:
    """Return AdamW's groups: the head at its own learning rate; the magnitude's decay is a choice."""
    groups: dict[str, dict[str, Any]] = {
        "adapter": {"lr": trainer.learning_rate, "weight_decay": trainer.weight_decay},
        "magnitude": {
            "lr": trainer.learning_rate,
            "weight_decay": trainer.weight_decay if trainer.decay_magnitude else 0.0,
        },
        "head": {"lr": trainer.head_learning_rate, "weight_decay": trainer.weight_decay},
    }
    members: dict[str, list[nn.Parameter]] = {name: [] for name in groups}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_head = is_head_parameter(name, head_modules)
            members["head" if is_head else "magnitude" if MAGNITUDE_MARK in name else "adapter"].append(
                parameter
            )
    return [{"name": name, "params": members[name], **groups[name]} for name in groups if members[name]]


def _count(module: nn.Module, head: bool, head_modules: list[str], trained: bool = False) -> int:
    return sum(
        parameter.numel()
        for name, parameter in module.named_parameters()
        if is_head_parameter(name, head_modules) == head and (parameter.requires_grad or not trained)
    )


def _check_targets(adapted: nn.Module, model: Model, adapter: PeftConfig) -> None:
    """Refuse an adapter that reached other layers than it names: half an adapter looks like a whole one."""
    assert isinstance(adapted, PeftModel)
    assert isinstance(adapted.base_model, BaseTuner)
    reached = adapted.base_model.targeted_module_names
    targets = getattr(adapter, "target_modules", None)
    if targets is None or isinstance(targets, str):
        return
    for target in sorted(targets):
        if not any(name == target or name.endswith("." + target) for name in reached):
            raise InputError(
                f"method.adapter.target_modules: {target} matches no layer of model={model.name}"
            )
    if set(targets) <= set(model.target_modules) and len(reached) != (
        allowed := _count_layers(targets, model)
    ):
        raise InputError(
            f"method.adapter.target_modules: {len(reached)} layers adapted; allowed for model={model.name} "
            f"is {allowed}"
        )


def _count_layers(targets: Iterable[str], model: Model) -> int:
    """Return how many layers these target modules of the model match, by ending; each module is as many."""
    matched = [
        module
        for module in model.target_modules
        if any(f".{module}".endswith(f".{target}") for target in targets)
    ]
    return model.adapted_layers // len(model.target_modules) * len(matched)
