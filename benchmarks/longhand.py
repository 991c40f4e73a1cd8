"""EDoRA's layer as it was published: a dense (out, in) product and a second pass of the inputs through W."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from edora.linear import Linear


class LonghandLinear(nn.Module):
    """Compute what an adapted layer computes, operation by operation as the authors' code does.

    y = W x + b + (m / ||W + s B R A|| - 1) * W x + m / ||W + s B R A|| * s B R A x, with the norm detached.

    Shapes: x (..., in), y (..., out). Source: EDoRA (arXiv 2501.12067), section 3, on PEFT 0.10's DoRA.
    """

    def __init__(self, layer: Linear, adapter_name: str) -> None:
        super().__init__()
        self.base_layer = cast(nn.Linear, layer.get_base_layer())
        self.core = layer.edora_core[adapter_name]
        self.magnitude = layer.edora_magnitude[adapter_name]
        self.basis_in = nn.Buffer(layer.edora_A[adapter_name])
        self.basis_out = nn.Buffer(layer.edora_B[adapter_name])
        self.scaling = layer.scaling[adapter_name]

    def forward(self, x: Tensor) -> Tensor:
        """Compute y, in the type in which the base layer answers."""
        base = self.base_layer(x)  # (..., out)
        weight = self.base_layer.weight.to(x.dtype)
        update = self.basis_out @ self.core @ self.basis_in  # (out, in)
        norm = (weight + self.scaling * update).norm(dim=1).detach()  # (out,)
        scale = self.magnitude / norm
        low_rank = F.linear(F.linear(F.linear(x, self.basis_in), self.core), self.basis_out)  # (..., out)
        change = (scale - 1) * F.linear(x, weight) + scale * low_rank * self.scaling
        return (base + change).to(base.dtype)


def use_longhand(model: nn.Module, adapter_name: str = "default") -> None:
    """Put the published layer in the place of every adapted one."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, Linear):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, LonghandLinear(layer, adapter_name))
