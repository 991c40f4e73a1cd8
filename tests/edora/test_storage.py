"""What a checkpoint proves when it is loaded: its weights, its bases, and that nobody has edited it."""

import hashlib

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from peft.utils import set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import RobertaConfig, RobertaForSequenceClassification
from transformers.pytorch_utils import Conv1D

from edora import EdoraConfig, basis
from edora.fingerprint import describe_weight, measure_basis_error, sketch_bases
from edora.layer import EdoraLayer

from .tiny_models import adapt_roberta, make_batch, make_roberta, move_far

LAYER = "roberta.encoder.layer.1.attention.self.value"
FILE = "adapter_model.safetensors"


def save(folder, **choices):
    model = adapt_roberta(**choices)
    model.save_pretrained(folder)
    return model(**make_batch()).logits


def edit(folder, change):
    saved = load_file(folder / FILE)
    change(saved)
    save_file(saved, folder / FILE)


def name_key(part, layer=LAYER):
    return f"base_model.model.{layer}.edora_{part}"


def make_weight(seed=0, shape=(20, 12)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_an_adapter_of_roberta_base_without_bases_is_below_256_kilobytes(tmp_path):
    torch.manual_seed(0)
    base = RobertaForSequenceClassification(RobertaConfig(num_labels=2))
    model = get_peft_model(base, EdoraConfig(r=16, task_type="SEQ_CLS", bases="random", save_bases=False))
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / FILE)
    adapter = {key: tensor for key, tensor in saved.items() if "edora_" in key}
    assert (
        sum(tensor.numel() for key, tensor in adapter.items() if key.endswith(("core", "magnitude")))
        == 49_152
    )
    save_file(adapter, tmp_path / "adapter_part.safetensors")
    assert (tmp_path / "adapter_part.safetensors").stat().st_size < 256_000


def test_the_default_is_self_contained():
    assert EdoraConfig().save_bases
    with pytest.raises(ValueError, match=r"save_bases='no'.*True or False"):
        EdoraConfig(save_bases="no")


@pytest.mark.parametrize("choices", [{}, {"bases": "random"}, {"svd_algorithm": "randomized"}])
def test_every_way_of_loading_builds_the_bases_again(tmp_path, choices):
    wanted = save(tmp_path, save_bases=False, **choices)
    batch = make_batch()
    loaded = PeftModel.from_pretrained(make_roberta(), tmp_path).eval()
    loaded.load_adapter(tmp_path, "second")
    for name in ("default", "second"):
        loaded.set_adapter(name)
        assert torch.equal(loaded(**batch).logits, wanted)
    state = get_peft_model_state_dict(loaded)
    assert not any(key.endswith(("edora_A", "edora_B")) for key in state)
    other = adapt_roberta(save_bases=False, **choices)
    with torch.no_grad():
        for layer in other.modules():
            if isinstance(layer, EdoraLayer):
                layer.edora_A["default"].mul_(2)  # as if it came from another machine
    set_peft_model_state_dict(other, state)
    assert torch.equal(other(**batch).logits, wanted)


def test_a_merged_model_saves_the_hash_of_its_original_weights(tmp_path):
    model = adapt_roberta(save_bases=False)
    wanted = model(**make_batch()).logits
    model.merge_adapter()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_roberta(), tmp_path).eval()
    assert torch.equal(loaded(**make_batch()).logits, wanted)
    into_merged = adapt_roberta()
    into_merged.merge_adapter()
    into_merged.load_adapter(tmp_path, "second")
    into_merged.set_adapter("second")
    assert torch.equal(into_merged.eval()(**make_batch()).logits, wanted)


def test_conv1d_layers_are_described_as_linear_ones_are(tmp_path):
    def build(layer):
        return nn.Sequential(layer)

    torch.manual_seed(0)
    conv = Conv1D(20, 12)
    linear = nn.Linear(12, 20)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.T)
        linear.bias.copy_(conv.bias)
    config = EdoraConfig(r=3, target_modules=["0"], save_bases=False)
    model = get_peft_model(build(conv), config)
    move_far(model.base_model.model[0])
    x = torch.randn(5, 12)
    wanted = model(x)
    model.save_pretrained(tmp_path)
    assert torch.allclose(PeftModel.from_pretrained(build(linear), tmp_path)(x), wanted, atol=1e-6)


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_without_bases_one_changed_bit_of_a_weight_is_an_error(tmp_path, low_cpu_mem_usage):
    save(tmp_path, save_bases=False)
    base = make_roberta()
    weight = base.get_parameter(f"{LAYER}.weight").data
    weight[3, 2] = torch.nextafter(weight[3, 2], torch.tensor(1.0))
    with pytest.raises(ValueError, match=rf"'{LAYER}'.*SHA-256.*same to the last bit"):
        PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_precision_of_the_weights_needs_saved_bases(tmp_path, dtype):
    save(tmp_path / "without", save_bases=False)
    wanted = save(tmp_path / "with")
    with pytest.raises(
        ValueError, match=rf"'roberta.*query'.*{dtype}.*differ by about 0\.[012]\d%.*save_bases=True"
    ):
        PeftModel.from_pretrained(make_roberta().to(dtype), tmp_path / "without")
    loaded = PeftModel.from_pretrained(make_roberta().to(dtype), tmp_path / "with").eval()
    assert torch.allclose(loaded(**make_batch()).logits.float(), wanted, atol=2e-2)


@pytest.mark.parametrize(
    "choices", [{}, {"save_bases": False}, {"train_core": False}, {"train_magnitude": False}]
)
def test_other_weights_of_the_same_shape_are_an_error(tmp_path, choices):
    save(tmp_path, **choices)
    with pytest.raises(
        ValueError, match=r"'roberta.*query'.*differ by about 1\d\d\.\d\d%.*another base model"
    ):
        PeftModel.from_pretrained(make_roberta(seed=1), tmp_path)
    tuned = make_roberta()
    with torch.no_grad():
        weight = tuned.get_parameter(f"{LAYER}.weight")
        weight += 0.004 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=rf"'{LAYER}'.*differ by about 0\.[3-7]\d%.*another base model"):
        PeftModel.from_pretrained(tuned, tmp_path)


def test_an_error_leaves_the_model_s_other_adapter_alone(tmp_path):
    save(tmp_path)
    other = adapt_roberta(make_roberta(seed=1))
    wanted = other(**make_batch()).logits
    with pytest.raises(ValueError, match="another base model"):
        other.load_adapter(tmp_path, "second")
    assert torch.equal(other(**make_batch()).logits, wanted)


@pytest.mark.parametrize("part", ["left", "right"])
def test_another_machine_s_last_bits_pass_and_a_turned_vector_does_not(tmp_path, monkeypatch, part):
    wanted = save(tmp_path, save_bases=False)
    monkeypatch.setenv("EDORA_CACHE", str(tmp_path / "another machine"))
    exact = basis._compute_exact

    def compute(factor, *arguments):
        triplets = exact(*arguments)
        getattr(triplets, part)[2 if part == "right" else (slice(None), 2)] *= factor
        return triplets

    monkeypatch.setitem(basis._COMPUTE, "exact", lambda *a: compute(1 + 1e-6, *a))
    loaded = PeftModel.from_pretrained(make_roberta(), tmp_path).eval()
    assert torch.allclose(loaded(**make_batch()).logits, wanted, atol=1e-4)
    monkeypatch.setenv("EDORA_CACHE", str(tmp_path / "a third"))
    monkeypatch.setitem(basis._COMPUTE, "exact", lambda *a: compute(-1, *a))
    with pytest.raises(ValueError, match=r"'roberta.*query'.*bases.*not those.*vector's norm"):
        PeftModel.from_pretrained(make_roberta(), tmp_path)


def test_bases_of_another_configuration_are_an_error(tmp_path):
    model = adapt_roberta(bases="random", basis_seed=1, save_bases=False)
    state = get_peft_model_state_dict(model)
    other = adapt_roberta(bases="random", basis_seed=2, save_bases=False)
    with pytest.raises(ValueError, match=r"'roberta.*bases.*Another configuration"):
        set_peft_model_state_dict(other, state)


def test_without_bases_and_without_weights_there_is_nothing_to_build_from(tmp_path):
    save(tmp_path / "without", save_bases=False)
    save(tmp_path / "with")
    with torch.device("meta"):
        base = make_roberta()
    with pytest.raises(ValueError, match=r"'roberta.*query'.*meta"):
        PeftModel.from_pretrained(base, tmp_path / "without", low_cpu_mem_usage=True)
    with torch.device("meta"):
        base = make_roberta()
    loaded = PeftModel.from_pretrained(base, tmp_path / "with", low_cpu_mem_usage=True)
    core = load_file(tmp_path / "with" / FILE)[name_key("core")]
    assert torch.equal(loaded.get_parameter(f"{name_key('core')}.default"), core)


EDITS = {
    "a part is missing": (lambda saved: saved.pop(name_key("magnitude")), r"lacks.*value\.edora_magnitude"),
    "a hash is missing": (lambda saved: saved.pop(name_key("weight_hash")), r"lacks.*value\.edora_weight_hash"),
    "a sketch is missing": (lambda saved: saved.pop(name_key("weight_sketch")), r"lacks.*edora_weight_sketch"),
    "a layer too many": (
        lambda saved: saved.update({name_key("core", "roberta.pooler"): torch.zeros(4, 4)}),
        r"no place.*pooler\.edora_core",
    ),
    "another rank": (lambda saved: saved.update({name_key("core"): torch.zeros(3, 3)}), r"\(3, 3\).*\(4, 4\)"),
    "integers": (
        lambda saved: saved.update({name_key("core"): torch.zeros(4, 4, dtype=torch.int64)}),
        r"value\.edora_core.*torch\.int64",
    ),
    "no number": (
        lambda saved: saved[name_key("core")].view(-1)[3].fill_(float("nan")),
        r"not finite \(1\): .*value\.edora_core",
    ),
    "infinite": (
        lambda saved: saved[name_key("magnitude")].view(-1)[3].fill_(float("inf")),
        r"not finite \(1\): .*value\.edora_magnitude",
    ),
    "another hash and sketch": (
        lambda saved: (saved[name_key("weight_hash")].zero_(), saved[name_key("weight_sketch")].zero_()),
        rf"'{LAYER}'.*another base model",
    ),
    "a name misspelt": (
        lambda saved: saved.update({name_key("coer"): saved.pop(name_key("core"))}),
        r"lacks.*value\.edora_core",
    ),
}  # fmt: skip


@pytest.mark.parametrize("save_bases", [True, False])
@pytest.mark.parametrize("change", EDITS)
def test_an_edited_checkpoint_is_an_error_that_names_what_is_wrong(tmp_path, change, save_bases):
    save(tmp_path, save_bases=save_bases)
    edit(tmp_path, EDITS[change][0])
    with pytest.raises(ValueError, match=EDITS[change][1]):
        PeftModel.from_pretrained(make_roberta(), tmp_path)


@pytest.mark.parametrize(
    ("basis_out", "message"),
    [
        (torch.zeros(15, 4), r"value\.edora_B.*: \(15, 4\) in the checkpoint, \(16, 4\) in the model"),
        (torch.full((16, 4), float("nan")), r"not finite \(1\): .*value\.edora_B"),
        (torch.zeros(16, 4, dtype=torch.int32), r"value\.edora_B.*torch\.int32"),
    ],
)
def test_an_edited_basis_is_an_error(tmp_path, basis_out, message):
    save(tmp_path)
    edit(tmp_path, lambda saved: saved.update({name_key("B"): basis_out}))
    with pytest.raises(ValueError, match=message):
        PeftModel.from_pretrained(make_roberta(), tmp_path)


def test_a_basis_or_a_sketch_that_should_not_be_there_is_an_error(tmp_path):
    save(tmp_path, save_bases=False)
    edit(tmp_path, lambda saved: saved.update({name_key("A"): torch.zeros(4, 16)}))
    with pytest.raises(ValueError, match=r"lacks.*value\.edora_B"):
        PeftModel.from_pretrained(make_roberta(), tmp_path)
    save(tmp_path)
    edit(tmp_path, lambda saved: saved.update({name_key("basis_sketch"): torch.zeros(2, 4)}))
    with pytest.raises(ValueError, match=r"no place.*value\.edora_basis_sketch"):
        PeftModel.from_pretrained(make_roberta(), tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, share, low_cpu_mem_usage):
    save(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"{tmp_path}.*truncated or damaged"):
        PeftModel.from_pretrained(make_roberta(), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)


def test_a_truncated_pickle_is_an_error_too(tmp_path):
    model = adapt_roberta()
    model.save_pretrained(tmp_path, safe_serialization=False)
    content = (tmp_path / "adapter_model.bin").read_bytes()
    (tmp_path / "adapter_model.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"truncated or damaged"):
        PeftModel.from_pretrained(make_roberta(), tmp_path)


def test_the_fingerprint_is_that_of_the_float32_values_and_of_the_shape():
    weight = make_weight().to(torch.bfloat16)
    assert torch.equal(describe_weight(weight).digest, describe_weight(weight.float()).digest)
    assert torch.equal(describe_weight(weight.T.contiguous().T).digest, describe_weight(weight).digest)
    assert not torch.equal(describe_weight(weight.reshape(12, 20)).digest, describe_weight(weight).digest)


def test_the_fixed_vectors_never_change():
    """They are compared with sketches in files that people keep."""
    ramp = torch.arange(12.0).view(3, 4)
    assert describe_weight(ramp).sketch[:4].tolist() == [-26.0, -6.0, 12.0, 66.0]
    assert sketch_bases(ramp, ramp.T).tolist() == [[6.0, 14.0, 22.0], [6.0, 14.0, 22.0]]
    content = repr((3, 4)).encode() + ramp.numpy().tobytes()
    assert bytes(describe_weight(ramp).digest.tolist()) == hashlib.sha256(content).digest()


def test_the_distance_is_the_relative_norm_of_the_difference():
    for size, share in ((200, 1e-3), (300, 0.1)):
        weight, noise = make_weight(0, (size, 80)), make_weight(1, (size, 80))
        changed = weight + share * noise
        true = ((changed - weight).norm() / weight.norm()).item()
        found = describe_weight(weight).measure_distance(describe_weight(changed).sketch)
        assert found == pytest.approx(true, rel=0.6)
    rounded = [
        describe_weight(weight.to(torch.bfloat16)).measure_distance(describe_weight(weight).sketch)
        for weight in (make_weight(seed, (64, 48)) for seed in range(50))
    ]
    assert 0.001 < np.mean(rounded) < 0.002
    assert max(rounded) < 0.0035


@pytest.mark.parametrize(
    "change",
    [
        lambda basis_in, basis_out: (basis_in, basis_out[:, [1, 0, 2]]),
        lambda basis_in, basis_out: (basis_in[[0, 2, 1]], basis_out[:, [0, 2, 1]]),
        lambda basis_in, basis_out: (-basis_in, -basis_out),
        lambda basis_in, basis_out: (basis_in * torch.tensor([[1.0], [1.0], [1.01]]), basis_out),
        lambda basis_in, basis_out: (basis_in[:2], basis_out[:, :2]),
    ],
)
def test_a_sketch_sees_exchanged_turned_and_stretched_vectors(change):
    basis_in, basis_out = basis.build_svd_bases(make_weight(), 3, "input")
    sketch = sketch_bases(basis_in, basis_out)
    assert measure_basis_error(sketch, basis_in, basis_out) == 0
    assert measure_basis_error(sketch, basis_in * (1 + 1e-6), basis_out) < 1e-5
    assert measure_basis_error(sketch, *change(basis_in, basis_out)) > 1e-3
