"""Several adapters at once: a sum of all that are active, or one of its own for each element of a batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora.model import _get_encoder
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

BASE = "__base__"


@contextmanager
def pass_adapter_names(tuner: BaseTuner, names: list[str] | None, beams: int = 1) -> Iterator[None]:
    """Hand the names down to the adapted layers and trained modules, for the calls inside this context.

    Under beam search the decoder's batch holds every element `beams` times in a row, the encoder's once.

    Raises: ValueError in training mode, or for an adapter that is on no layer.
    """
    if names is None:
        yield
        return
    _check_names(tuner, names)
    repeated = [name for name in names for _ in range(beams)]
    encoder = _get_encoder(tuner.model)
    encoding = set(encoder.modules()) if encoder is not None else set()
    handles = [
        module.register_forward_pre_hook(
            partial(_add_names, names=names if module in encoding else repeated), with_kwargs=True
        )
        for module in tuner.modules()
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def forward_sum(layer: Any, x: Tensor, names: list[str], *args: Any, **kwargs: Any) -> Tensor:
    """Add up what each adapter changes: y = W x + b + sum of (W' - W) x, with one W' an adapter.

    Shapes: x (..., in); returns (..., out).
    """
    base = call_with(layer, [], x, *args, **kwargs)  # (..., out)
    return base + sum(call_with(layer, [name], x, *args, **kwargs) - base for name in names)


def forward_mixed(layer: Any, x: Tensor, names: list[str], *args: Any, **kwargs: Any) -> Tensor:
    """Call an adapted layer once for every adapter that is named, with the elements that name it.

    Shapes: x (batch, ..., in), as many names as elements; returns (batch, ..., out).
    Raises: ValueError if the numbers differ, or if an adapter is merged.
    """
    if len(names) != len(x):
        raise ValueError(
            "Length of `adapter_names` should be the same as the number of inputs, but got "
            f"{len(names)} and {len(x)} respectively."
        )
    if layer.merged and not layer.disable_adapters:
        raise ValueError(
            "Cannot pass `adapter_names` when there are merged adapters, please call `unmerge_adapter` first."
        )
    order, parts = [], []
    for name in dict.fromkeys(names):
        rows = [row for row, other in enumerate(names) if other == name]
        active = [] if name == BASE else [name]
        parts.append(call_with(layer, active, x[rows], *args, **kwargs))  # (rows, ..., out)
        order += rows
    return torch.cat(parts)[torch.tensor(order, device=x.device).argsort()]  # (batch, ..., out)


def call_with(layer: Any, active: list[str], *args: Any, **kwargs: Any) -> Tensor:
    """Call an adapted layer as if these adapters were the active ones."""
    kept = layer._active_adapter
    layer._active_adapter = active
    try:
        return layer.forward(*args, **kwargs)
    finally:
        layer._active_adapter = kept


def _add_names(
    _: nn.Module, args: Any, kwargs: dict[str, Any], names: list[str]
) -> tuple[Any, dict[str, Any]]:
    return args, {**kwargs, "adapter_names": names}


def _check_names(tuner: BaseTuner, names: list[str]) -> None:
    if tuner.training:
        raise ValueError("Cannot pass `adapter_names` when the model is in training mode.")
    layers = (module for module in tuner.modules() if isinstance(module, BaseTunerLayer))
    known = {BASE}.union(*(layer._all_available_adapter_names() for layer in layers))
    unknown = sorted(set(names) - known)
    if unknown:
        raise ValueError(f"Trying to infer with non-existing adapter(s): {', '.join(unknown)}")
