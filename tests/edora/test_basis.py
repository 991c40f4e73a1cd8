"""The frozen bases: what they span, in which order and sign, and which random numbers they use."""

import shutil

import pytest
import torch

from edora import basis
from edora.basis import build_svd_bases, decompose_weight, draw_core, draw_random_bases

from .tiny_models import make_layer, relative_error

SHAPES = [(12, 12), (20, 12), (7, 20)]


def make_weight(out_features, in_features, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(out_features, in_features, generator=generator)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDORA_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("algorithm", ["exact", "randomized"])
@pytest.mark.parametrize(("out_features", "in_features"), SHAPES)
def test_output_basis_is_orthonormal_and_input_basis_carries_the_singular_values(
    out_features, in_features, algorithm
):
    weight = make_weight(out_features, in_features)
    basis_in, basis_out = build_svd_bases(weight, 5, "input", algorithm)
    values = torch.linalg.svdvals(weight.double())[:5]
    assert basis_in.shape == (5, in_features)
    assert basis_out.shape == (out_features, 5)
    assert torch.allclose(basis_out.T @ basis_out, torch.eye(5), atol=1e-5)
    assert torch.allclose(basis_in @ basis_in.T, torch.diag(values.square()).float(), atol=1e-3)
    assert torch.allclose(basis_out.T @ weight, basis_in, atol=1e-4)


@pytest.mark.parametrize(("side", "exponent"), [("input", 1.0), ("split", 0.5), ("output", 0.0)])
def test_singular_values_go_where_configured_and_the_product_stays(side, exponent):
    weight = make_weight(20, 12)
    basis_in, basis_out = build_svd_bases(weight, 12, side)
    values = torch.linalg.svdvals(weight.double())
    assert torch.allclose(basis_in.norm(dim=1).double(), values**exponent, rtol=1e-5)
    assert torch.allclose(basis_out.norm(dim=0).double(), values ** (1 - exponent), rtol=1e-5)
    assert relative_error(basis_out @ basis_in, weight) < 1e-6


def test_ranks_are_nested_and_signs_fixed(cache):
    weight = make_weight(20, 12)
    small = build_svd_bases(weight, 3, "input")
    shutil.rmtree(cache)
    large = build_svd_bases(weight, 9, "input")
    assert torch.equal(small[0], large[0][:3])
    assert torch.equal(small[1], large[1][:, :3])
    right = decompose_weight(weight, 12).right
    assert (right.gather(1, right.abs().argmax(1, keepdim=True)) > 0).all()
    turned = decompose_weight(-weight, 12)
    assert torch.allclose(turned.right, right, atol=1e-6)


def test_a_weight_is_decomposed_once_and_told_apart_by_content(monkeypatch):
    calls = []
    exact = basis._COMPUTE["exact"]
    monkeypatch.setitem(basis._COMPUTE, "exact", lambda *a: calls.append(1) or exact(*a))
    weight = make_weight(20, 12)
    decompose_weight(weight, 4)
    decompose_weight(weight.clone(), 12)
    assert len(calls) == 1
    other = weight.clone()
    other[0, 0] += 1e-3
    assert not torch.equal(decompose_weight(other, 4).values, decompose_weight(weight, 4).values)
    assert len(calls) == 2
    decompose_weight(weight.reshape(12, 20), 4)
    assert len(calls) == 3


def test_algorithms_do_not_share_what_they_computed(cache):
    weight = make_weight(40, 30)
    exact, randomized = (decompose_weight(weight, 4, name).right for name in ("exact", "randomized"))
    assert torch.equal(decompose_weight(weight, 4, "randomized").right, randomized)
    assert not torch.equal(decompose_weight(weight, 3, "randomized").right, randomized[:3])
    shutil.rmtree(cache)
    assert torch.equal(decompose_weight(weight, 4, "randomized").right, randomized)
    assert not torch.equal(exact, randomized)


def test_a_rank_above_what_is_kept_is_decomposed_again(monkeypatch):
    monkeypatch.setattr(basis, "CACHED_RANK", 2)
    weight = make_weight(20, 12)
    assert decompose_weight(weight, 2).rank == 2
    assert decompose_weight(weight, 9).rank == 9
    assert decompose_weight(weight, 5).rank == 5


@pytest.mark.parametrize("algorithm", ["exact", "randomized"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_comes_from_the_cache_has_the_same_bits(algorithm, dtype, cache, monkeypatch):
    weight = make_weight(40, 30).to(dtype)
    computed = build_svd_bases(weight, 5, "split", algorithm)
    monkeypatch.setitem(basis._COMPUTE, algorithm, lambda *_: pytest.fail("computed again"))
    cached = build_svd_bases(weight, 5, "split", algorithm)
    assert all(torch.equal(one, other) for one, other in zip(cached, computed, strict=True))
    assert all(basis.is_contiguous() for basis in cached)


def test_every_rank_and_seed_shares_what_was_computed_once(cache, monkeypatch):
    calls = []
    exact = basis._COMPUTE["exact"]
    monkeypatch.setitem(basis._COMPUTE, "exact", lambda *a: calls.append(1) or exact(*a))
    for rank in (8, 1, 16):
        for seed in (0, 1):
            make_layer(40, 30, r=rank, init_seed=seed)
    assert len(calls) == 1
    assert len(list(cache.rglob("*.safetensors"))) == 1


@pytest.mark.parametrize("library", ["torch", "sklearn"])
def test_another_version_of_the_library_that_computes_is_another_entry(library, cache, monkeypatch):
    weight = make_weight(20, 12)
    decompose_weight(weight, 4, "randomized")
    monkeypatch.setattr(f"{library}.__version__", "0.0")
    decompose_weight(weight, 4, "randomized")
    assert len(list(cache.rglob("*.safetensors"))) == 2


def test_randomized_is_the_authors_call():
    from sklearn.decomposition import TruncatedSVD

    weight = make_weight(20, 12)
    reference = TruncatedSVD(n_components=4, n_iter=10, random_state=42)
    scaled = reference.fit_transform(weight.T.numpy())
    basis_in, basis_out = build_svd_bases(weight, 4, "input", "randomized")
    assert relative_error(basis_out @ basis_in, torch.from_numpy((scaled @ reference.components_).T)) < 1e-5


def test_decomposing_runs_on_one_thread_and_restores_the_setting(monkeypatch):
    seen = []
    exact = basis._COMPUTE["exact"]
    monkeypatch.setitem(basis._COMPUTE, "exact", lambda *a: seen.append(torch.get_num_threads()) or exact(*a))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        decompose_weight(make_weight(20, 12), 4)
        assert seen == [1]
        assert torch.get_num_threads() == 2
        with pytest.raises(ValueError, match="not finite"):
            decompose_weight(torch.full((3, 3), float("nan")), 1)
    finally:
        torch.set_num_threads(before)


def test_random_bases_have_each_their_own_bound():
    basis_in, basis_out = draw_random_bases(400, 900, 16, seed=0, layer_name="layer")
    for drawn, bound in ((basis_in, 900**-0.5), (basis_out, 16**-0.5)):
        assert bound * 0.98 < drawn.abs().max() <= bound
        assert drawn.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)


def test_streams_depend_on_seed_and_layer_alone_and_leave_the_global_one():
    before = torch.get_rng_state()
    one = draw_random_bases(6, 5, 2, seed=0, layer_name="a")[0]
    core = draw_core(3, 1.0, 0, "a")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, draw_random_bases(6, 5, 2, seed=0, layer_name="a")[0])
    assert torch.equal(core, draw_core(3, 1.0, 0, "a"))
    assert not torch.equal(one, draw_random_bases(6, 5, 2, seed=1, layer_name="a")[0])
    assert not torch.equal(one, draw_random_bases(6, 5, 2, seed=0, layer_name="b")[0])
    assert not torch.equal(core, draw_core(3, 1.0, 1, "a"))
    assert not torch.equal(core, draw_core(3, 1.0, 0, "b"))


def test_without_a_seed_the_core_comes_from_the_global_generator():
    torch.manual_seed(1)
    first = draw_core(3, 1.0, None, "a")
    assert not torch.equal(first, draw_core(3, 1.0, None, "a"))
    torch.manual_seed(1)
    assert torch.equal(first, draw_core(3, 1.0, None, "a"))


def test_layers_use_random_bases_where_configured():
    _, layer = make_layer(20, 12, r=4, bases="random", basis_seed=9)
    basis_in, basis_out = draw_random_bases(20, 12, 4, 9, "linear")
    assert torch.equal(layer.edora_A["default"], basis_in)
    assert torch.equal(layer.edora_B["default"], basis_out)
