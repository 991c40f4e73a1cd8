"""EdoraModel, and its registration among PEFT's methods."""

import warnings
from collections import ChainMap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft.config import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import (
    BaseTuner,
    BaseTunerLayer,
    _get_tuner_state_dict_key_prefixes,
    _maybe_include_all_linear_layers,
)
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, PeftType, register_peft_method
from peft.utils.other import get_pattern_key
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.parametrize import is_parametrized
from transformers.pytorch_utils import Conv1D

from edora.checkpoint import complete_loaded, complete_saved, find_bases, read_saved
from edora.config import EdoraConfig
from edora.layer import EdoraLayer
from edora.linear import Linear
from edora.mixed import pass_adapter_names

WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
ENCODER_LAYERS = ["query", "value", "attention.output.dense", "output.dense"]
DEBERTA_LAYERS = ["query_proj", "value_proj", "attention.output.dense", "output.dense"]
TARGET_MODULES: Any = ChainMap(
    {
        **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), ENCODER_LAYERS),
        "deberta-v2": DEBERTA_LAYERS,
    },
    TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
)


class EdoraModel(BaseTuner):
    """Give a model EDoRA adapters; made by `get_peft_model(model, EdoraConfig(...))`.

    Without target_modules the encoders of the paper's family are adapted as in the authors' code (query,
    value, attention output, feed-forward output), other architectures where PEFT's LoRA adapts them.

    Raises:
        TypeError: if a target is neither nn.Linear nor Conv1D.
        ValueError: if a name in target_modules matches no layer, or a rank exceeds a layer's size. Both
            come before any layer is replaced.
    """

    _saved: dict[str, Tensor]
    prefix = "edora_"
    tuner_layer_cls = EdoraLayer
    target_module_mapping = TARGET_MODULES

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add an adapter as PEFT does; one that comes from a checkpoint takes its bases from there."""
        self._saved = read_saved(cast(EdoraConfig, self.peft_config[adapter_name]))
        try:
            super().inject_adapter(model, adapter_name, *args, **kwargs)
        finally:
            self._saved = {}

    def _prepare_model(self, peft_config: PeftConfig, model: nn.Module) -> None:
        """Check every target before the first is replaced, so that an error leaves the model as it was."""
        config = cast(EdoraConfig, _maybe_include_all_linear_layers(peft_config, model))
        modules = dict(model.named_modules())
        inside = tuple(f"{name}." for name, module in modules.items() if isinstance(module, BaseTunerLayer))
        names = [name for name in modules if name and not name.startswith(inside)]
        _check_names(config, names)
        for name in names:
            if self._check_target_module_exists(config, name):
                _check_target(name, modules[name], config)

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        config = cast(EdoraConfig, peft_config)
        _check_target(current_key, target, config)
        rank = _get_rank(current_key, config)
        choices: dict[str, Any] = {
            "rank": rank,
            "alpha": _get_alpha(current_key, config),
            "config": config,
            "layer_name": current_key,
            "bases": find_bases(self._saved, current_key, _get_weight(target), rank),
        }
        if isinstance(target, EdoraLayer):
            target.update_layer(adapter_name, **choices)
            return
        self._replace_module(parent, target_name, Linear(target, adapter_name, **choices), target)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        """Put the new module in its place; it is on the right device already, or on meta to be loaded."""
        setattr(parent, child_name, new_module)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Keep R and m in float32, or give them the base model's type if the caller wants no autocast."""
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        for layer in self.model.modules():
            if isinstance(layer, EdoraLayer) and not autocast_adapter_dtype:
                layer.cast_trained(adapter_name)

    @contextmanager
    def _enable_peft_forward_hooks(self, *_: Any, **kwargs: Any) -> Iterator[None]:
        with pass_adapter_names(self, kwargs.get("adapter_names"), kwargs.get("num_beams") or 1):
            yield

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: PeftConfig,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        """Select what is saved, and add what loading needs to check it."""
        tensors = super()._get_adapter_state_dict(
            model, config, adapter_name, state_dict, unwanted_adapter_names
        )
        return complete_saved(model, cast(EdoraConfig, config), adapter_name, tensors, state_dict)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Refuse a checkpoint that is not this model's, and build the bases that it leaves out."""
        tensors = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        held = model.state_dict()
        owned = _get_tuner_state_dict_key_prefixes(model, adapter_name=adapter_name)
        expected = {key: tensor for key, tensor in held.items() if key in owned}
        expected |= cls._get_learnable_bias_state_dict(model, held, config)
        return complete_loaded(model, cast(EdoraConfig, config), adapter_name, tensors, expected)


def register_edora() -> None:
    """Enter EDoRA among PEFT's methods; once in a process, however often it is called.

    PEFT 0.21 has no way to add a type from outside, so the member is put where the enum keeps its own.

    Raises: RuntimeError if another package has registered a method of this name.
    """
    if "EDORA" not in PeftType.__members__:
        member = str.__new__(PeftType, "EDORA")
        member._name_, member._value_ = "EDORA", "EDORA"
        PeftType._member_map_["EDORA"] = member
        PeftType._value2member_map_["EDORA"] = member
        PeftType._member_names_.append("EDORA")
        type.__setattr__(PeftType, "EDORA", member)
    known = PEFT_TYPE_TO_CONFIG_MAPPING.get(PeftType("EDORA"))
    if known is None:
        register_peft_method(
            name="edora", config_cls=EdoraConfig, model_cls=EdoraModel, prefix=EdoraModel.prefix
        )
    elif known.__module__ != EdoraConfig.__module__:
        raise RuntimeError(
            f"PEFT already has a method EDORA, from {known.__module__}; it cannot be replaced."
        )


def _get_rank(name: str, config: EdoraConfig) -> int:
    return config.rank_pattern.get(get_pattern_key(list(config.rank_pattern), name), config.r)


def _get_alpha(name: str, config: EdoraConfig) -> float:
    return config.alpha_pattern.get(get_pattern_key(list(config.alpha_pattern), name), config.alpha)


def _get_weight(target: nn.Module) -> Tensor:
    """Get the weight, as (out, in), that an adapter of this layer starts from."""
    if isinstance(target, EdoraLayer):
        return target.original_weight
    weight = cast(Tensor, target.weight)
    return weight.T if isinstance(target, Conv1D) else weight


def _check_names(config: EdoraConfig, names: list[str]) -> None:
    """Refuse a list of targets of which a part matches nothing; PEFT refuses one that never matches."""
    if config.target_modules is None or isinstance(config.target_modules, str):
        return
    unmatched = sorted(t for t in config.target_modules if not any(f".{n}".endswith(f".{t}") for n in names))
    if unmatched and len(unmatched) < len(config.target_modules):
        raise ValueError(
            f"target_modules: {unmatched} match no module of this model, while others do: half an adapter "
            "would be made. Name only modules that exist."
        )


def _check_target(name: str, target: nn.Module, config: EdoraConfig) -> None:
    layer = target.get_base_layer() if isinstance(target, EdoraLayer) else target
    hidden = isinstance(layer, NonDynamicallyQuantizableLinear)  # MultiheadAttention never calls its forward
    if hidden or not isinstance(layer, nn.Linear | Conv1D) or not _is_plain(layer):
        raise TypeError(
            f"Target module {name!r} is a {type(layer).__name__} with a weight of {layer.weight.dtype}; "
            "EDoRA adapts torch.nn.Linear and transformers.pytorch_utils.Conv1D with floats of 16 to 64 bits "
            "only (no quantised layer, none with a parametrised or partitioned weight, none inside "
            "torch.nn.MultiheadAttention)."
        )
    if isinstance(layer, nn.Linear) and config.fan_in_fan_out:
        warnings.warn(
            f"fan_in_fan_out=True has no effect on {name!r}: torch.nn.Linear stores (out, in).", stacklevel=2
        )
    rank, largest = _get_rank(name, config), min(layer.weight.shape)
    if config.train_core and rank > largest:
        raise ValueError(
            f"Layer {name!r}: r={rank} is above the layer's size; a weight of "
            f"{tuple(layer.weight.shape)} allows 1 to {largest}."
        )


def _is_plain(layer: nn.Module) -> bool:
    """Say whether a layer holds its weight as a whole matrix, which can be read and replaced."""
    weight = cast(Tensor, layer.weight)
    return weight.dtype in WEIGHT_DTYPES and weight.ndim == 2 and not is_parametrized(layer)


register_edora()
