"""PEFT's DoRA with the norm taken from its factors, and with one product in the place of several."""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from peft import LoraConfig
from peft.tuners import lora
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import LoraVariant
from peft.tuners.lora.variants import DoraLinearVariant
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from edora.forward import LowRank, Magnitude, adapt_linear, find_product_dtype, forbid_autocast, get_weight

FEW_DIGITS = 1e-2
"""Below this part of the weight's own squared norm the sum has lost digits; then the row is computed."""


@dataclass
class FactoredDoraConfig(LoraConfig):
    """Configure PEFT's DoRA, with the norm taken from its factors and a layer computed at once.

    Only the arithmetic differs from LoraConfig(use_dora=True): parameters, their start, merged weights and
    checkpoints are PEFT's DoRA's, and a checkpoint loads as that. nn.Linear and Conv1D are computed so, other
    layers as PEFT does it. use_dora is always on.

    Source: DoRA (arXiv 2402.09353), section 4.
    """

    def __post_init__(self) -> None:
        self.use_dora = True
        super().__post_init__()
        self._register_custom_module(dict.fromkeys((nn.Linear, Conv1D), _build_layer))  # type: ignore[arg-type]


class FactoredDoraLinear(lora.Linear):
    """PEFT's adapted linear layer, with DoRA at once where nothing stands between its parts.

    y = (m / ||W + s B A||) * (W x + s B A x) + b, the norm detached.

    Shapes: x (..., in), y (..., out).
    """

    @property
    def lora_variants(self) -> dict[tuple[str, ...], type[LoraVariant] | None]:
        """PEFT's variants of LoRA, but for DoRA ours."""
        return {**super().lora_variants, ("use_dora",): FactoredDoraVariant}

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Compute y; with dropout, several adapters, or a hooked or trained base layer in PEFT's way."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        at_once = len(names) == 1 and not (args or kwargs or self.disable_adapters or self.merged)
        dtype = find_product_dtype(self.base_layer, x) if at_once else None
        if dtype is None or not self._is_plain_dora(names[0]):
            return super().forward(x, *args, **kwargs)
        return self._forward_at_once(x, names[0], dtype)

    def _forward_at_once(self, x: Tensor, adapter_name: str, dtype: torch.dtype) -> Tensor:
        base_layer: Any = self.base_layer
        lora_a, lora_b, held = (
            cast(Tensor, container[adapter_name].weight)
            for container in (self.lora_A, self.lora_B, self.lora_magnitude_vector)
        )  # (r, in), (out, r), (out,)
        update = LowRank(lora_a, None, lora_b, self.scaling[adapter_name])
        magnitude = Magnitude(held, compute_norm(self._orient(base_layer.weight), update))
        weight = self._orient(get_weight(base_layer, x, dtype))  # (out, in)
        return adapt_linear(x, weight, base_layer.bias, update, magnitude, dtype)

    def _orient(self, weight: Tensor) -> Tensor:
        return weight.T if self.fan_in_fan_out else weight

    def _is_plain_dora(self, adapter_name: str) -> bool:
        drops = self.training and not isinstance(self.lora_dropout[adapter_name], nn.Identity)
        return isinstance(self.lora_variant.get(adapter_name), FactoredDoraVariant) and not drops


class FactoredDoraVariant(DoraLinearVariant):
    """PEFT's DoRA of a linear layer, with a FactoredDoraLayer for its magnitude."""

    @staticmethod
    def init(module: Any, adapter_name: str, **kwargs: Any) -> None:
        """Make the magnitude as PEFT does, and hand it to our layer."""
        DoraLinearVariant.init(module, adapter_name, **kwargs)
        factored = FactoredDoraLayer(module.fan_in_fan_out)
        factored.weight = module.lora_magnitude_vector[adapter_name].weight
        module.lora_magnitude_vector[adapter_name] = factored


class FactoredDoraLayer(DoraLinearLayer):
    """Hold DoRA's magnitude m (out,), and compute what it adds to the base layer's output."""

    def forward(
        self,
        x: Tensor,
        *,
        lora_A: Any,  # noqa: N803
        lora_B: Any,  # noqa: N803
        scaling: float,
        base_layer: Any,
        base_result: Tensor | None = None,
        adapter_name: str = "default",
    ) -> Tensor:
        """Compute (m / ||.|| - 1) * W x + m / ||.|| * s B A x, as PEFT does when it has dropped inputs."""
        weight = base_layer.weight.T if self.fan_in_fan_out else base_layer.weight  # (out, in)
        norm = compute_norm(weight, LowRank(lora_A.weight, None, lora_B.weight, scaling))
        scale = self.weight / norm
        if base_result is None:
            base_result = F.linear(x, weight.to(x.dtype))
        elif base_layer.bias is not None:
            base_result = base_result - base_layer.bias
        return (scale - 1) * base_result + scale * lora_B(lora_A(x)) * scaling


@torch.no_grad()
def compute_norm(weight: Tensor, update: LowRank) -> Tensor:
    """Compute the norm of every row of W + s B A from products of (out, r).

    ||row||^2 = ||W||^2 + <s B, 2 W A^T + s B A A^T>, and from the row itself where that has lost its digits.

    Shapes: weight (out, in); returns (out,), in float32 at least, so that squares have room.
    """
    wide = torch.promote_types(update.basis_in.dtype, torch.float32)
    basis_in, basis_out, scaling = update.basis_in.to(wide), update.basis_out.to(wide), update.scaling
    with forbid_autocast(weight.device):
        weight = weight.to(wide)
        own = torch.linalg.vector_norm(weight, dim=1).square()  # (out,)
        crossed = weight @ basis_in.T  # (out, r)
        crossed.addmm_(basis_out, basis_in @ basis_in.T, beta=2, alpha=scaling)
        squared = torch.add(own, (basis_out * crossed).sum(dim=1), alpha=scaling)  # (out,)
        poor = squared < FEW_DIGITS * own
        if poor.any():
            squared[poor] = (weight[poor] + scaling * basis_out[poor] @ basis_in).square().sum(dim=1)
        return squared.sqrt()


def _build_layer(
    target: nn.Module, adapter_name: str, config: LoraConfig, **kwargs: Any
) -> FactoredDoraLinear | None:
    """Adapt a linear layer; None leaves another (also a subclass, such as a quantised one) to PEFT."""
    base_layer = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
    if type(base_layer) not in (nn.Linear, Conv1D) or kwargs.get("parameter_name") is not None:
        return None
    config.fan_in_fan_out = isinstance(base_layer, Conv1D)  # as in PEFT, the layer's type decides
    return FactoredDoraLinear(
        target, adapter_name, config=config, is_target_conv_1d_layer=config.fan_in_fan_out, **kwargs
    )
