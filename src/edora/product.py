"""Products with the weight that an adapter stands for, composed or in parts."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class AdaptedWeight(NamedTuple):
    """W' = scale (W + s B R A), row by row, as far as there is any of it.

    Shapes: weight (out, in), scale (out,), basis_in A (r, in), core R (r, r), basis_out B (out, r).
    """

    weight: Tensor
    scale: Tensor | None
    basis_in: Tensor | None
    core: Tensor | None
    basis_out: Tensor | None
    scaling: float

    def multiply(self, rows: Tensor, bias: Tensor | None, out: Tensor) -> None:
        """Compute rows W'^T + b, shape (tokens, out)."""
        composed = self.compose(rows.dtype).T
        if bias is None:
            torch.mm(rows, composed, out=out)
        else:
            torch.addmm(bias.to(rows.dtype), rows, composed, out=out)

    def multiply_parts(self, rows: Tensor, p: Tensor | None, out: Tensor) -> None:
        """Compute z = rows (W + s B R A)^T, shape (tokens, out), where p = rows A^T, (tokens, r)."""
        torch.mm(rows, self.weight.to(rows.dtype).T, out=out)
        if p is not None and self.basis_out is not None:
            q = p if self.core is None else p @ self.core.to(p.dtype).T
            out.addmm_(q, self.basis_out.to(p.dtype).T, alpha=self.scaling)

    def multiply_back(self, dy: Tensor, dq: Tensor | None) -> Tensor:
        """Compute dx = dy W', shape (tokens, in); dq, if there is an update, is dy times the scaled B."""
        if is_worth_composing(len(dy), self.weight.shape, dy.dtype):
            return dy @ self.compose(dy.dtype)
        dz = dy if self.scale is None else rescale(dy, self.scale, None, out=torch.empty_like(dy))
        dx = dz @ self.weight.to(dz.dtype)
        if dq is not None and self.basis_in is not None:
            dp = dq if self.core is None else dq @ self.core.to(dq.dtype)  # (tokens, r)
            dx.addmm_(dp, self.basis_in.to(dp.dtype), alpha=self.scaling)
        return dx

    def compose(self, dtype: torch.dtype) -> Tensor:
        """Compute W', shape (out, in), and round it once."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        composed = self.weight.to(wide, copy=True)
        if self.scale is not None:
            composed.mul_(self.scale.unsqueeze(1))
        if self.basis_in is not None and self.basis_out is not None:
            through = self.scale_rows(self.basis_out).to(wide)  # (out, r)
            through = through if self.core is None else through @ self.core.to(wide)
            composed.addmm_(through, self.basis_in.to(wide), alpha=self.scaling)
        return composed.to(dtype)

    def scale_rows(self, rows: Tensor) -> Tensor:
        """Scale each of the rows, (out, any)."""
        return rows if self.scale is None else rows * self.scale.unsqueeze(1)


def is_worth_composing(tokens: int, shape: Sequence[int], dtype: torch.dtype) -> bool:
    """Say whether products in `dtype` with a composed weight, forward and backward, pass less through memory.

    In parts they pass 7 out + 2 in values a token; composing W (out, in) twice passes 8 out in, in float32.
    """
    outputs, inputs = shape
    in_parts = tokens * (7 * outputs + 2 * inputs) * dtype.itemsize
    return in_parts > 8 * outputs * inputs * torch.float32.itemsize


def rescale(z: Tensor, scale: Tensor | None, bias: Tensor | None, out: Tensor) -> Tensor:
    """Compute scale * z + b, shape (tokens, out), where `out` may be z; without scale it has to be.

    On a CPU products of mixed types take four times as long; 16 bits hold z + (scale - 1) z + b with scale's
    digits, unless it is below 1 / 2.
    """
    if scale is None:
        return z if bias is None else z.add_(bias.to(z.dtype))
    if z.dtype != scale.dtype and z.device.type == "cpu" and scale.min() >= 0.5:
        torch.addcmul(z, z, (scale - 1).to(z.dtype), out=out)
        return out if bias is None else out.add_(bias.to(z.dtype))
    return torch.mul(z, scale, out=out) if bias is None else torch.addcmul(bias, z, scale, out=out)
