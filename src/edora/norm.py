"""The norm of every row of W + s B R A, without building that matrix."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edora.basis import run_single_threaded


@dataclass(frozen=True)
class NormConstants:
    """What the norms need of W and A, in float32: coordinates (out, r + 1) and factor (r, r + 1)."""

    coordinates: Tensor
    factor: Tensor


def split_rows(weight: Tensor, basis_in: Tensor) -> NormConstants:
    """Split the rows of W into their part in the span of A's rows and the rest.

    A = L Q, Q having orthonormal rows. The factor is L, and the coordinates are W Q^T; in a last column the
    factor has zeros, and the coordinates what is left of each row's length, ||W - W Q^T Q||.

    Shapes: weight (out, in), basis_in (r, in), where r may be 0; the constants lie on the weight's device,
    and on meta if either input does. Computed on the CPU in float64 by one thread, so that devices agree.
    """
    (out_features, _), rank = weight.shape, len(basis_in)
    if weight.is_meta or basis_in.is_meta:
        shapes = ((out_features, rank + 1), (rank, rank + 1))
        return NormConstants(*(torch.empty(shape, device="meta", dtype=torch.float32) for shape in shapes))
    with run_single_threaded():
        rows = weight.detach().to(device="cpu", dtype=torch.float64)  # (out, in)
        columns = basis_in.detach().to(device="cpu", dtype=torch.float64).T  # (in, r)
        orthonormal, upper = torch.linalg.qr(columns)  # (in, r), (r, r)
        coordinates = rows @ orthonormal  # (out, r)
        rest = (rows - coordinates @ orthonormal.T).norm(dim=1, keepdim=True)  # (out, 1)
    constants = (torch.cat([coordinates, rest], dim=1), F.pad(upper.T, (0, 1)))
    return NormConstants(*(constant.to(device=weight.device, dtype=torch.float32) for constant in constants))


def compute_row_norm(
    constants: NormConstants, basis_out: Tensor | None = None, core: Tensor | None = None
) -> Tensor:
    """Compute the norm of every row of W + B C A, without the update where there is none.

    ||row||^2 = ||W - W Q^T Q||^2 + ||W Q^T + B C L||^2, with A = L Q.

    It equals ||W||^2 + 2 <B C, W A^T> + <B C (A A^T), B C>, but as a sum of squares it cannot become
    negative, nor lose its digits, when an update shrinks a row towards zero.

    Shapes: basis_out B (out, r), core C (r, r), which is s R; returns (out,).
    """
    rows = constants.coordinates
    if basis_out is not None and core is not None:
        rows = torch.addmm(rows, basis_out, core @ constants.factor)  # (out, r + 1)
    return torch.linalg.vector_norm(rows, dim=1)  # (out,)
