"""The adapted linear layer: forward, merge, unmerge."""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import Tensor, nn

from edora.forward import (
    LowRank,
    Magnitude,
    adapt_linear,
    find_product_dtype,
    get_weight,
    has_autocast,
)
from edora.layer import EdoraLayer
from edora.mixed import forward_mixed, forward_sum


class Linear(EdoraLayer):
    """Adapt nn.Linear, or transformers' Conv1D, which stores its weight as (in, out).

    y = (m / ||W + s B R A||) * (W x + s B R A x) + b; the bias is not scaled.

    Shapes: x (..., in), y (..., out).
    """

    def __init__(self, base_layer: nn.Module, adapter_name: str, **choices: Any) -> None:
        super().__init__(base_layer)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, **choices)

    def forward(self, x: Tensor, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any) -> Tensor:
        """Compute y, in the type in which the base layer answers."""
        if adapter_names is not None:
            return forward_mixed(self, x, adapter_names, *args, **kwargs)
        if self.disable_adapters and self.merged:
            self.unmerge()
        names = self.list_present(self.active_adapters)
        if self.disable_adapters or self.merged or not names:
            return self.base_layer(x, *args, **kwargs)
        if len(names) > 1:
            return forward_sum(self, x, names, *args, **kwargs)
        dtype = find_product_dtype(self.base_layer, x)
        if args or kwargs or dtype is None or self._drops_input(names[0]):
            return self._forward_in_parts(x, names[0], *args, **kwargs)
        return self._forward_at_once(x, names[0], dtype)

    def _forward_at_once(self, x: Tensor, adapter_name: str, dtype: torch.dtype) -> Tensor:
        """Compute y as one product, of which autograd sees no parts."""
        update, magnitude = None, None
        if adapter_name in self.edora_core:
            factors = (self.edora_A[adapter_name], self.edora_core[adapter_name], self.edora_B[adapter_name])
            update = LowRank(*factors, self.scaling[adapter_name])
        if adapter_name in self.edora_magnitude:
            magnitude = Magnitude(self.edora_magnitude[adapter_name], self._compute_norm(adapter_name))
        weight = get_weight(self.base_layer, x, dtype)
        weight = weight.T if self.fan_in_fan_out else weight  # (out, in)
        return adapt_linear(x, weight, self.bias, update, magnitude, dtype)

    def _forward_in_parts(self, x: Tensor, adapter_name: str, *args: Any, **kwargs: Any) -> Tensor:
        """Compute y operation by operation, so that hooks and dropout find their place."""
        base = self.base_layer(x, *args, **kwargs)  # (..., out)
        result = base
        if adapter_name in self.edora_core:
            result = result + self._apply_update(x, adapter_name)  # (..., out)
        if adapter_name in self.edora_magnitude:
            result = self._rescale(result, self._compute_scale(adapter_name))
        return result.to(base.dtype)

    def _drops_input(self, adapter_name: str) -> bool:
        return self.training and isinstance(self.edora_dropout[adapter_name], nn.Dropout)

    def _apply_update(self, x: Tensor, adapter_name: str) -> Tensor:
        basis_in = self.edora_A[adapter_name]
        if not has_autocast(x.device):
            x = self._cast_input_dtype(x, basis_in.dtype)
        x = F.linear(self.edora_dropout[adapter_name](x), basis_in)  # (..., rank)
        core = self.edora_core[adapter_name].to(basis_in.dtype)
        x = F.linear(x, self.scaling[adapter_name] * core)
        return F.linear(x, self.edora_B[adapter_name])  # (..., out)

    def _rescale(self, result: Tensor, scale: Tensor) -> Tensor:
        """Scale what the weight gave and leave the bias as it is, which the result holds already."""
        return result * scale if self.bias is None else result * scale + (1 - scale) * self.bias

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Replace the base weight by W', and keep the original for unmerge.

        Raises: ValueError, with safe_merge, if W' is not finite.
        """
        names = self.list_present(check_adapters_to_merge(self, adapter_names))
        if not names:
            return
        kept = self.get_base_weight()
        merged = self.compose_weight([*self.merged_adapters, *names]).to(kept.dtype)
        if safe_merge and not torch.isfinite(merged).all():
            raise ValueError(
                f"NaNs detected in the merged weights. The adapter {', '.join(names)} seems to be broken: "
                "its weight is not finite. Nothing was merged."
            )
        if not self.merged:
            self.edora_original_weight = kept
        self.set_base_weight(self._orient(merged))
        self.merged_adapters.extend(names)

    def unmerge(self) -> None:
        """Give the base layer its original weight back, bit for bit."""
        if self.edora_original_weight is None:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        self.set_base_weight(self.edora_original_weight)
        self.edora_original_weight = None
        self.merged_adapters.clear()

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Compute W' - W of one adapter, in the base weight's layout and type."""
        delta = self.compose_weight([adapter]) - self.original_weight.float()  # (out, in)
        return self._orient(delta).to(self.original_weight.dtype)

    def _orient(self, weight: Tensor) -> Tensor:
        return weight.T.contiguous() if self.fan_in_fan_out else weight  # (in, out) for Conv1D

    def __repr__(self) -> str:
        return "edora." + super().__repr__()
