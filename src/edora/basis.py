"""Frozen bases A and B: the truncated SVD of a weight, or random, from streams that no one else reads."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from edora.cache import read_tensors, write_tensors
from edora.config import EdoraConfig
from edora.fingerprint import hash_weight

CACHED_RANK = 64
VERSION = 1  # of what is cached: higher whenever a change of this module changes a bit of it


@dataclass(frozen=True)
class SingularTriplets:
    """The leading singular triplets of a weight W (out, in), W ~ left diag(values) right, in float32.

    Shapes: left (out, rank), values (rank,), right (rank, in); values fall, both bases are orthonormal.
    """

    left: Tensor
    values: Tensor
    right: Tensor

    @property
    def rank(self) -> int:
        """How many triplets there are."""
        return len(self.values)

    def truncate(self, rank: int) -> "SingularTriplets":
        """Keep the first `rank` triplets."""
        return SingularTriplets(self.left[:, :rank], self.values[:rank], self.right[:rank])


@contextmanager
def run_single_threaded() -> Iterator[None]:
    """Hold torch at one thread, because the number of threads changes a factorisation's bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seed_stream(seed: int, purpose: str, layer_name: str) -> torch.Generator:
    """Make the generator that belongs to (seed, purpose, layer) alone, whatever else has been drawn."""
    digest = hashlib.sha256(f"{purpose}\0{seed}\0{layer_name}".encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def build_bases(weight: Tensor, rank: int, config: EdoraConfig, layer_name: str) -> tuple[Tensor, Tensor]:
    """Build A (rank, in) and B (out, rank) as configured; without values if the weight is on meta.

    Shapes: weight (out, in); both bases are float32 and lie on the weight's device.
    Raises: ValueError that names the layer if its weight has no SVD.
    """
    out_features, in_features = weight.shape
    if weight.is_meta:
        basis_in, basis_out = (
            torch.empty(shape, device="meta", dtype=torch.float32)
            for shape in ((rank, in_features), (out_features, rank))
        )
    elif config.bases == "svd":
        if not torch.isfinite(weight).all():
            raise ValueError(f"Layer {layer_name!r}: its weight has values that are not finite, so no SVD.")
        basis_in, basis_out = build_svd_bases(weight, rank, config.singular_values, config.svd_algorithm)
    else:
        basis_in, basis_out = draw_random_bases(
            out_features, in_features, rank, config.basis_seed, layer_name
        )
    return basis_in.to(weight.device), basis_out.to(weight.device)


def build_svd_bases(
    weight: Tensor, rank: int, singular_values: str, algorithm: str = "exact"
) -> tuple[Tensor, Tensor]:
    """Build the frozen bases from a weight's leading singular triplets W ~ U S V^T.

    A = S^e V^T and B = U S^(1-e), with e = 1 for "input", 0 for "output", 1/2 for "split".

    Shapes: weight (out, in); returns A (rank, in) and B (out, rank), float32, on the CPU.
    Source: LoRA-XS (arXiv 2405.17604), section 3; EDoRA (arXiv 2501.12067), section 3.
    """
    triplets = decompose_weight(weight, rank, algorithm)
    exponent = {"input": 1.0, "split": 0.5, "output": 0.0}[singular_values]
    basis_in = triplets.values.pow(exponent).unsqueeze(1) * triplets.right  # (rank, in)
    basis_out = triplets.left * triplets.values.pow(1 - exponent)  # (out, rank)
    return basis_in.contiguous(), basis_out.contiguous()


def draw_random_bases(
    out_features: int, in_features: int, rank: int, seed: int, layer_name: str
) -> tuple[Tensor, Tensor]:
    """Draw Kaiming-uniform bases, each with the bound of the vectors that it multiplies.

    A ~ U(-1/sqrt(in), 1/sqrt(in)), B ~ U(-1/sqrt(rank), 1/sqrt(rank)): PyTorch's own bound for linear layers.

    Shapes: returns A (rank, in) and B (out, rank), float32, on the CPU.
    Deviation: the authors initialise the transposed factors, so that A's bound becomes 1/sqrt(rank).
    """
    stream = seed_stream(seed, "bases", layer_name)
    basis_in, basis_out = (
        torch.empty(shape, device="cpu", dtype=torch.float32).uniform_(
            -(shape[1] ** -0.5), shape[1] ** -0.5, generator=stream
        )
        for shape in ((rank, in_features), (out_features, rank))
    )
    return basis_in, basis_out


def draw_core(
    rank: int, init_std: float, seed: int | None, layer_name: str, device: torch.device | str = "cpu"
) -> Tensor:
    """Draw R ~ N(0, init_std^2), shape (rank, rank), float32: on the CPU, whatever device it then goes to.

    A seed of None reads torch's global generator, as PEFT's methods do. Nothing is drawn for device meta.
    """
    if torch.device(device).type == "meta":
        return torch.empty(rank, rank, device="meta", dtype=torch.float32)
    stream = None if seed is None else seed_stream(seed, "core", layer_name)
    core = torch.empty(rank, rank, device="cpu", dtype=torch.float32)
    core = core.normal_(0.0, init_std, generator=stream) if init_std > 0 else core.zero_()
    return core.to(device)


def decompose_weight(weight: Tensor, rank: int, algorithm: str = "exact") -> SingularTriplets:
    """Compute a weight's leading `rank` singular triplets, or take them from the cache on disk.

    Computed on the CPU, by one thread; each right singular vector's entry of largest magnitude is positive.
    "exact" is the full SVD in float64, truncated: its error lies below the last bit of the float32 that is
    kept, so that machines agree, and rank 8 is the first part of rank 32. "randomized" is scikit-learn's.

    Shapes: weight (out, in), any floating type; see SingularTriplets for the result.
    Raises: ValueError if the weight has a value that is not finite.
    """
    matrix = weight.detach().to(device="cpu", dtype=torch.float32).contiguous()
    if not torch.isfinite(matrix).all():
        raise ValueError("the weight has values that are not finite, so it has no singular vectors")
    key = _name_triplets(matrix, rank, algorithm)
    cached = read_tensors(key)
    if cached is not None and len(cached["values"]) >= rank:
        return SingularTriplets(**cached).truncate(rank)
    with run_single_threaded():
        triplets = _COMPUTE[algorithm](matrix, rank)
    write_tensors(key, vars(triplets))
    return triplets.truncate(rank)


def _name_triplets(matrix: Tensor, rank: int, algorithm: str) -> str:
    """Name what is computed by all that its bits depend on: the weight, the algorithm and the libraries."""
    name = f"{hash_weight(matrix).hex()}-{algorithm}{VERSION}-torch{torch.__version__}"
    if algorithm == "randomized":
        import sklearn

        name += f"-sklearn{sklearn.__version__}-{rank}"  # its triplets depend on how many are asked for
    return name


def _compute_exact(matrix: Tensor, rank: int) -> SingularTriplets:
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    kept = min(max(rank, CACHED_RANK), len(values))
    return _fix_signs(left[:, :kept], values[:kept], right[:kept])


def _compute_randomized(matrix: Tensor, rank: int) -> SingularTriplets:
    """Follow the authors: scikit-learn's TruncatedSVD of the transposed weight."""
    from sklearn.decomposition import TruncatedSVD

    truncated = TruncatedSVD(n_components=rank, n_iter=10, random_state=42)
    scaled_right = torch.from_numpy(truncated.fit_transform(matrix.T.numpy()).copy())  # (in, rank)
    left = torch.from_numpy(truncated.components_.T.copy())  # (out, rank)
    values = scaled_right.norm(dim=0)  # (rank,)
    smallest = torch.finfo(values.dtype).tiny
    return _fix_signs(left, values, (scaled_right / values.clamp_min(smallest)).T)


_COMPUTE = {"exact": _compute_exact, "randomized": _compute_randomized}


def _fix_signs(left: Tensor, values: Tensor, right: Tensor) -> SingularTriplets:
    peaks = right.gather(1, right.abs().argmax(dim=1, keepdim=True))  # (rank, 1)
    signs = torch.where(peaks < 0, -1.0, 1.0).to(right.dtype)  # (rank, 1)
    tensors = (left * signs.T, values, right * signs)
    return SingularTriplets(*(tensor.float().contiguous() for tensor in tensors))
