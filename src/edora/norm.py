"""The norm of every row of W + s B R A, without building that matrix."""

from dataclasses import dataclass

import torch
from torch import Tensor

from edora.basis import run_single_threaded


@dataclass(frozen=True)
class NormConstants:
    """What the norms need of W and A, in float32: residual (out,), coordinates (out, r), factor (r, r)."""

    residual: Tensor
    coordinates: Tensor
    factor: Tensor


def split_rows(weight: Tensor, basis_in: Tensor) -> NormConstants:
    """Split the rows of W into their part in the span of A's rows and the rest.

    A = L Q, Q having orthonormal rows; factor L, coordinates W Q^T, residual ||W - W Q^T Q||^2 by rows.

    Shapes: weight (out, in), basis_in (r, in), where r may be 0; the constants lie on the weight's device,
    and on meta if either input does. Computed on the CPU in float64 by one thread, so that devices agree.
    """
    (out_features, _), rank = weight.shape, len(basis_in)
    if weight.is_meta or basis_in.is_meta:
        shapes = ((out_features,), (out_features, rank), (rank, rank))
        return NormConstants(*(torch.empty(shape, device="meta", dtype=torch.float32) for shape in shapes))
    with run_single_threaded():
        rows = weight.detach().to(device="cpu", dtype=torch.float64)  # (out, in)
        columns = basis_in.detach().to(device="cpu", dtype=torch.float64).T  # (in, r)
        orthonormal, upper = torch.linalg.qr(columns)  # (in, r), (r, r)
        coordinates = rows @ orthonormal  # (out, r)
        residual = (rows - coordinates @ orthonormal.T).square().sum(dim=1)  # (out,)
    constants = (residual, coordinates, upper.T.contiguous())
    return NormConstants(*(constant.to(device=weight.device, dtype=torch.float32) for constant in constants))


def compute_row_norm(constants: NormConstants, update: Tensor | None = None) -> Tensor:
    """Compute the norm of every row of W + C A, where C = s B R.

    ||row||^2 = ||W - W Q^T Q||^2 + ||W Q^T + C L||^2, with A = L Q.

    It equals ||W||^2 + 2 <C, W A^T> + <C (A A^T), C>, but as a sum of squares it cannot become negative, nor
    lose its digits, when an update shrinks a row towards zero.

    Shapes: update C (out, r), none meaning zero; returns (out,).
    """
    inside = constants.coordinates if update is None else constants.coordinates + update @ constants.factor
    return (constants.residual + inside.square().sum(dim=1)).sqrt()  # (out,)
