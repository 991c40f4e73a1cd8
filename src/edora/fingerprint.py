"""What tells one weight, or one pair of bases, from another: an exact hash and small sketches.

A sketch is a few projections onto fixed vectors of +1 and -1. It is far smaller than what it stands for, and
where a hash can only say "different" it says how different. The vectors come from SHAKE-256, so that they are
the same on every machine and in every version of every library.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PROJECTIONS = 16


@dataclass(frozen=True)
class WeightFingerprint:
    """A weight's hash, uint8 (32,), its sketch, float32 (16,), and its norm."""

    digest: Tensor
    sketch: Tensor
    norm: float

    def measure_distance(self, sketch: Tensor) -> float:
        """Estimate ||W - W'|| / ||W|| from the sketch of another weight W', to about a fifth.

        About 0.0015 where one was rounded to bfloat16, 1.4 for unrelated weights of one size.
        """
        difference = (self.sketch - sketch.to(self.sketch)).double()
        return difference.square().mean().sqrt().item() / max(self.norm, torch.finfo(torch.float32).tiny)


def hash_weight(matrix: Tensor) -> bytes:
    """Identify a contiguous float32 matrix on the CPU by its shape and content, with SHA-256."""
    digest = hashlib.sha256(repr(tuple(matrix.shape)).encode())
    digest.update(matrix.numpy().data)
    return digest.digest()


def describe_weight(weight: Tensor) -> WeightFingerprint:
    """Take the fingerprint of a weight (out, in), after conversion to float32 on the CPU."""
    matrix = _to_matrix(weight)
    left = _draw_signs(PROJECTIONS, matrix.shape[0], "rows")  # (16, out)
    right = _draw_signs(PROJECTIONS, matrix.shape[1], "columns")  # (16, in)
    return WeightFingerprint(
        digest=torch.tensor(list(hash_weight(matrix)), dtype=torch.uint8),
        sketch=((left @ matrix) * right).sum(dim=1),  # (16,)
        norm=matrix.norm().item(),
    )


def sketch_bases(basis_in: Tensor, basis_out: Tensor) -> Tensor:
    """Project every basis vector once: A u over B^T v, shape (2, r), float32.

    Shapes: A (r, in), B (out, r). R acts between single vectors of both, so each of them has to be right; a
    projection of B A alone would not see two of them exchanged.
    """
    rows_in, rows_out = _to_matrix(basis_in), _to_matrix(basis_out.T)  # (r, in), (r, out)
    return torch.stack([rows @ _draw_signs(1, rows.shape[1], "basis")[0] for rows in (rows_in, rows_out)])


def measure_basis_error(sketch: Tensor, basis_in: Tensor, basis_out: Tensor) -> float:
    """Compare bases with a sketch: the largest difference of a projection, as a share of its vector's norm.

    Shapes: sketch (2, r), A (r, in), B (out, r). Infinite if the ranks differ.
    """
    found = sketch_bases(basis_in, basis_out)
    if sketch.shape != found.shape:
        return float("inf")
    norms = torch.stack([_to_matrix(rows).norm(dim=1) for rows in (basis_in, basis_out.T)])  # (2, r)
    errors = (found - sketch.to(found)).abs() / norms.clamp_min(torch.finfo(norms.dtype).tiny)
    return errors.max().item()


def _to_matrix(tensor: Tensor) -> Tensor:
    return tensor.detach().to(device="cpu", dtype=torch.float32).contiguous()


def _draw_signs(rows: int, columns: int, purpose: str) -> Tensor:
    """Draw a float32 matrix (rows, columns) of +1 and -1 that depends on nothing but the arguments."""
    count = rows * columns
    drawn = hashlib.shake_256(f"edora {purpose}".encode()).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(drawn, dtype=np.uint8), count=count)
    return torch.from_numpy(bits.astype(np.float32) * 2 - 1).view(rows, columns)
