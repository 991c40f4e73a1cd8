"""The product of an adapted layer as one autograd function: exact, and with few passes over activations.

The forward pass adds the low-rank part to W x, since a weight that holds both, rounded to 16 bits, would lose
small steps of R and m. The backward pass multiplies by that weight, W' = (m / norm) (W + s B R A), where
tokens are enough to pay for composing it, and in parts where they are few.

What EDoRA costs beyond the frozen layer, which takes 4 in out FLOPs a token, forward and backward together,
and keeps no activation:

| for each              | FLOPs                           | kept for backward, in values            |
| --------------------- | ------------------------------- | --------------------------------------- |
| token, forward        | 2 r (in + out + r) + 2 out      | r for R's gradient; for m's y, which    |
|                       |                                 | the next layer may keep anyway          |
| token, backward       | 2 r (out + r) + 3 out           |                                         |
| call                  | 4 out r^2                       | 2 out                                   |
| call, if many tokens  | 2 r in out + in out + 2 out r^2 |                                         |
| token, if few instead | 2 r (in + r) + out              |                                         |

A value has 4 bytes, or 2 under bf16. Activations pass through memory, in values a token: forward in + 4 out,
backward 5 out, with few tokens 2 in + 2 out more; W, with many, 4 in out a call.

On the layers of roberta-base that it adapts, at r = 16, that is 2.3 % of the frozen layers' FLOPs a token; a
call adds 0.2 % at 4,096 tokens. LoRA takes 6 r (in + out) a token, 4.9 %, and keeps in + r values.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from edora.frozen import FrozenLinear

TILE = 1024
"""Tokens that a CPU sums up at a time, so that a product of activations is still in its cache."""


class LowRank(NamedTuple):
    """An update s B R A: A (r, in), R (r, r) or None for the identity, B (out, r), and the number s."""

    basis_in: Tensor
    core: Tensor | None
    basis_out: Tensor
    scaling: float


class Magnitude(NamedTuple):
    """Lengths of the rows: m (out,), which they are to have, and the norm (out,) that they have, constant."""

    wanted: Tensor
    norm: Tensor


def has_autocast(device: torch.device) -> bool:
    """Say whether autocast is on; there is none on meta."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def forbid_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which operations keep the types that they are given."""
    return torch.autocast(device.type, enabled=False) if has_autocast(device) else nullcontext()


def find_product_dtype(base_layer: Any, x: Tensor) -> torch.dtype | None:
    """Find the type in which a layer multiplies x; None if `adapt_linear` cannot stand in for the layer.

    It can for nn.Linear, FrozenLinear and Conv1D with a frozen weight, if nothing hooks into their call.
    """
    if type(base_layer) not in (nn.Linear, FrozenLinear, Conv1D) or base_layer.weight.requires_grad:
        return None
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if "forward" in vars(base_layer) or any(getattr(base_layer, name) for name in hooks):
        return None
    if has_autocast(x.device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype if x.dtype == base_layer.weight.dtype else None


def get_weight(base_layer: Any, dtype: torch.dtype) -> Tensor:
    """Get a frozen weight as the layer stores it: in `dtype` already if the layer keeps it so."""
    keeps_cast = isinstance(base_layer, FrozenLinear) and base_layer.weight.dtype != dtype
    return base_layer.cast_weight(dtype) if keeps_cast else base_layer.weight


def adapt_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    update: LowRank | None,
    magnitude: Magnitude | None,
    dtype: torch.dtype,
) -> Tensor:
    """Compute y = (m / norm) * (W x + s B R A x) + b, or what is left of it, with products in `dtype`.

    W is frozen, everything else may train. m / norm and b are applied in their own type. There is no second
    derivative. If m trains, y is kept for its gradient, and autograd refuses a y that was changed in place; a
    GPU keeps z = (y - b) norm / m instead. A bias far larger than z costs m's gradient digits, as in PEFT's
    DoRA.

    Shapes: x (..., in), weight (out, in), bias (out,); returns (..., out) of type `dtype`.
    """
    factors = update or (None, None, None, 1.0)
    if magnitude is not None and not torch.is_grad_enabled():
        magnitude = Magnitude(magnitude.wanted.detach(), magnitude.norm)  # so that nothing is kept for m
    return _AdaptedLinear.apply(x, weight, bias, *(magnitude or (None, None)), *factors, dtype)


class _AdaptedLinear(torch.autograd.Function):
    """y = scale z + b, with z = x W^T + s q B^T, q = p R^T, p = x A^T, scale = m / norm; rows are tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        wanted: Tensor | None,
        norm: Tensor | None,
        basis_in: Tensor | None,
        core: Tensor | None,
        basis_out: Tensor | None,
        scaling: float,
        dtype: torch.dtype,
    ) -> Tensor:
        _, _, _, trains_magnitude, _, trains_in, trains_core, trains_out, *_ = ctx.needs_input_grad
        rows = x.reshape(-1, x.shape[-1]).to(dtype)  # (tokens, in)
        weight = weight.to(dtype)
        scale = None if wanted is None or norm is None else wanted / norm  # (out,)
        ctx.keeps_z = trains_magnitude and not _is_recoverable(scale, dtype)
        y = rows.new_empty(*x.shape[:-1], len(weight))  # no view: others may change it
        flat, p = y.view(-1, len(weight)), None  # (tokens, out)
        z = torch.mm(rows, weight.T, out=torch.empty_like(flat) if ctx.keeps_z else flat)
        if basis_in is not None and basis_out is not None:
            p = torch.mm(rows, basis_in.to(dtype).T)  # (tokens, r)
            q = p if core is None else p @ core.to(dtype).T
            z.addmm_(q, basis_out.to(dtype).T, alpha=scaling)
        if scale is not None:
            _rescale(z, scale, bias, out=flat)
        elif bias is not None:
            z += bias.to(dtype)
        ctx.scaling, ctx.shape = scaling, x.shape
        ctx.save_for_backward(
            weight,
            bias,
            norm,
            scale,
            basis_in,
            core,
            basis_out,
            rows if trains_in else None,
            p if trains_core or trains_out else None,
            (z if ctx.keeps_z else y) if trains_magnitude else None,
        )
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        with forbid_autocast(dy.device):
            return _AdaptedLinear._derive(ctx, dy)

    @staticmethod
    def _derive(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        weight, bias, norm, scale, basis_in, core, basis_out, rows, p, kept = ctx.saved_tensors
        trains_x, _, trains_bias, trains_magnitude, _, trains_in, trains_core, trains_out, *_ = (
            ctx.needs_input_grad
        )
        dy = dy.reshape(-1, dy.shape[-1])  # (tokens, out)
        parts = _Parts(weight, scale, basis_in, core, basis_out, ctx.scaling)
        dq: Any = None
        dx = d_in = d_core = d_out = d_wanted = None
        if basis_out is not None:
            dq = dy @ parts.scale_rows(basis_out).to(dy.dtype)  # (tokens, r)
        if trains_x:
            dx = parts.multiply_back(dy, dq).view(ctx.shape)
        if trains_in:
            d_in = (dq if core is None else dq @ core.to(dq.dtype)).T @ rows * ctx.scaling  # (r, in)
        if trains_core:
            d_core = dq.T @ p * ctx.scaling  # (r, r)
        if trains_out:
            d_out = dy.T @ (p if core is None else p @ core.to(p.dtype).T) * ctx.scaling  # (out, r)
            d_out = parts.scale_rows(d_out)
        if trains_magnitude:
            d_scale = _sum_products(dy, kept.view_as(dy), None if ctx.keeps_z else bias)  # (out,)
            d_wanted = (d_scale if ctx.keeps_z else d_scale / scale) / norm
        d_bias = dy.sum(dim=0) if trains_bias else None
        return dx, None, d_bias, d_wanted, None, d_in, d_core, d_out, None, None


class _Parts(NamedTuple):
    """What W' = scale (W + s B R A) consists of, as far as there is any."""

    weight: Tensor
    scale: Tensor | None
    basis_in: Tensor | None
    core: Tensor | None
    basis_out: Tensor | None
    scaling: float

    def scale_rows(self, rows: Tensor) -> Tensor:
        """Scale each of the rows, (out, any)."""
        return rows if self.scale is None else rows * self.scale.unsqueeze(1)

    def multiply_back(self, dy: Tensor, dq: Tensor | None) -> Tensor:
        """Compute dx = dy W', shape (tokens, in); dq, if there is an update, is dy times the scaled B."""
        (tokens, outputs), inputs = dy.shape, self.weight.shape[1]
        if tokens * (3 * outputs + 2 * inputs) > 4 * outputs * inputs:  # values that pass through memory
            return dy @ self.compose().to(dy.dtype)
        dz = dy if self.scale is None else _rescale(dy, self.scale, None, out=torch.empty_like(dy))
        dx = dz @ self.weight
        if dq is not None and self.basis_in is not None:
            dp = dq if self.core is None else dq @ self.core.to(dq.dtype)  # (tokens, r)
            dx.addmm_(dp, self.basis_in.to(dp.dtype), alpha=self.scaling)
        return dx

    def compose(self) -> Tensor:
        """Compute W', shape (out, in), in a type that holds small updates."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        composed = self.weight.to(wide, copy=True)
        if self.scale is not None:
            composed.mul_(self.scale.unsqueeze(1))
        if self.basis_in is not None and self.basis_out is not None:
            through = self.scale_rows(self.basis_out).to(wide)  # (out, r)
            through = through if self.core is None else through @ self.core.to(wide)
            composed.addmm_(through, self.basis_in.to(wide), alpha=self.scaling)
        return composed


def _is_recoverable(scale: Tensor | None, dtype: torch.dtype) -> bool:
    """Say whether z = (y - b) / scale keeps its digits in `dtype`; no on a GPU, which would have to wait."""
    if scale is None or scale.device.type != "cpu":
        return False
    return bool(scale.abs().min() > torch.finfo(dtype).eps ** (1 / 3))


def _rescale(z: Tensor, scale: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """Compute scale * z + b, where `out` may be z.

    On a CPU products of mixed types take four times as long; 16 bits hold z + (scale - 1) z + b with scale's
    digits, unless it is below 1 / 2.
    """
    if z.dtype != scale.dtype and z.device.type == "cpu" and scale.min() >= 0.5:
        torch.addcmul(z, z, (scale - 1).to(z.dtype), out=out)
        return out if bias is None else out.add_(bias.to(z.dtype))
    return torch.mul(z, scale, out=out) if bias is None else torch.addcmul(bias, z, scale, out=out)


def _sum_products(dy: Tensor, y: Tensor, bias: Tensor | None) -> Tensor:
    """Sum dy * (y - b) over tokens, shape (out,).

    Tiles add up in float32 at least; float16 has no room for products under a scaled loss.
    """
    length = TILE if dy.device.type == "cpu" else max(len(dy), 1)
    total = dy.new_zeros(dy.shape[1], dtype=torch.promote_types(dy.dtype, torch.float32))
    for dy_tile, y_tile in zip(dy.split(length), y.split(length), strict=True):
        z_tile = y_tile if bias is None else y_tile - bias.to(y.dtype)
        z_tile = z_tile.float() if z_tile.dtype == torch.float16 else z_tile
        total += (dy_tile * z_tile).sum(dim=0)
    return total
