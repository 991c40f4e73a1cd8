"""EdoraModel inside PEFT: what is adapted, counted, refused, and how adapters live together."""

import copy
import importlib
import pickle
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from peft.utils import PeftType
from torch import nn
from transformers import (
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import edora
from edora import EdoraConfig
from edora.layer import EdoraLayer
from edora.model import register_edora

from .tiny_models import (
    TARGETS,
    TwoLayers,
    adapt_roberta,
    make_batch,
    make_layer,
    make_roberta,
    move_far,
    relative_error,
)

EDORA_COUNTS = {4: 37_632, 8: 39_936, 12: 43_776, 16: 49_152, 20: 56_064, 25: 66_864, 32: 86_016}


def count_trainable(model, part="edora_"):
    return sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and part in name)


@pytest.fixture(scope="module")
def roberta_base_on_meta():
    with torch.device("meta"):
        return RobertaForSequenceClassification(RobertaConfig(num_labels=2))


@pytest.mark.parametrize("rank", EDORA_COUNTS)
def test_roberta_base_has_the_papers_counts(roberta_base_on_meta, rank):
    for choices, count in (
        ({}, EDORA_COUNTS[rank]),
        ({"train_magnitude": False}, 48 * rank**2),
        ({"train_core": False}, 36_864),
    ):
        config = EdoraConfig(r=rank, task_type="SEQ_CLS", **choices)
        model = get_peft_model(copy.deepcopy(roberta_base_on_meta), config)
        assert len([m for m in model.modules() if isinstance(m, EdoraLayer)]) == 48
        assert count_trainable(model) == count
        assert count_trainable(model, "modules_to_save") == 592_130
        assert count_trainable(model, "") == count + 592_130
        assert all(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def test_a_forward_on_meta_gives_the_shape():
    with torch.device("meta"):
        base = TwoLayers()
    model = get_peft_model(base, EdoraConfig(r=4, target_modules="all-linear"))
    assert model(torch.empty(3, 12, device="meta")).shape == (3, 7)


@pytest.mark.parametrize(
    ("choices", "count"),
    [({}, 3**2 + 20), ({"train_magnitude": False}, 3**2), ({"train_core": False}, 20)],
)
def test_trainable_parameters_of_one_layer(choices, count):
    model, _ = make_layer(20, 12, r=3, **choices)
    assert count_trainable(model, "") == count


def test_the_default_targets_are_the_papers_and_complete_on_deberta():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    roberta = get_peft_model(make_roberta(), EdoraConfig(r=2))
    deberta = DebertaV2ForSequenceClassification(DebertaV2Config(vocab_size=30, **sizes))
    for model in (roberta, get_peft_model(deberta, EdoraConfig(r=2))):
        assert len(model.base_model.targeted_module_names) == 8
    blocks = [
        name.removeprefix("roberta.encoder.layer.") for name in roberta.base_model.targeted_module_names
    ]
    attention = ["attention.self.query", "attention.self.value", "attention.output.dense"]
    assert blocks == [f"{i}.{name}" for i in (0, 1) for name in [*attention, "output.dense"]]


def test_gpt2_conv1d_layers_train():
    config = GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, n_positions=16)
    model = get_peft_model(GPT2LMHeadModel(config), EdoraConfig(r=4, task_type="CAUSAL_LM"))
    assert count_trainable(model, "") == 2 * (4**2 + 48)
    tokens = torch.arange(10).view(1, 10)
    model(input_ids=tokens, labels=tokens).loss.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_names_that_match_nothing_are_refused():
    with pytest.raises(ValueError, match="not found in the base model"):
        get_peft_model(make_roberta(), EdoraConfig(target_modules=["no_such_layer"]))
    with pytest.raises(ValueError, match=r"\['query_proj', 'value_proj'\] match no module"):
        get_peft_model(
            make_roberta(), EdoraConfig(target_modules=["query_proj", "value_proj", "output.dense"])
        )


def test_an_unknown_architecture_needs_targets():
    with pytest.raises(ValueError, match="target_modules"):
        get_peft_model(TwoLayers(), EdoraConfig(r=2))


def test_a_rank_above_the_layer_is_refused_before_anything_is_replaced():
    model = make_roberta()
    with pytest.raises(
        ValueError, match=r"'roberta\.encoder\.layer\.0\.attention\.self\.query'.*r=17.*1 to 16"
    ):
        get_peft_model(model, EdoraConfig(r=17, target_modules=TARGETS))
    assert not any(isinstance(module, EdoraLayer) for module in model.modules())
    small = TwoLayers()
    config = EdoraConfig(r=2, target_modules=["square", "wide"], rank_pattern={"wide": 13})
    with pytest.raises(ValueError, match=r"'wide'.*r=13.*\(20, 12\).*1 to 12"):
        get_peft_model(small, config)
    assert not any(isinstance(module, EdoraLayer) for module in small.modules())
    state = {"square.edora_core": torch.zeros(2, 2), "wide.edora_core": torch.zeros(13, 13)}
    config = EdoraConfig(r=2, target_modules=["square"], rank_pattern={"wide": 13})
    with pytest.raises(ValueError, match=r"'wide'.*r=13"):
        inject_adapter_in_model(config, TwoLayers(), state_dict=state)
    get_peft_model(model, EdoraConfig(r=16, target_modules=TARGETS))


def test_other_layer_types_are_refused_by_name():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2)

    for model, target, type_name in (
        (make_roberta(), "word_embeddings", "Embedding"),
        (nn.Sequential(nn.Conv2d(3, 3, 3)), "0", "Conv2d"),
        (Attention(), "out_proj", "NonDynamicallyQuantizableLinear"),
        (get_peft_model(TwoLayers(), LoraConfig(target_modules=["wide"])).base_model.model, "wide", "Linear"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(TypeError, match=rf"{target}.*{type_name}.*torch\.nn\.Linear"):
                get_peft_model(model, EdoraConfig(r=2, target_modules=[target]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda layer: layer.weight.data.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda layer: torch.empty(0), "with a weight of torch.float32.*partitioned"),
        (None, "parametrised"),
    ],
)
def test_a_weight_that_is_no_plain_matrix_is_refused_by_name(change, named):
    model = TwoLayers()
    if change is None:
        nn.utils.parametrizations.weight_norm(model.wide)
    else:
        model.wide.weight = nn.Parameter(change(model.wide), requires_grad=False)
    with pytest.raises(TypeError, match=rf"'wide' is a .*{named}"):
        get_peft_model(model, EdoraConfig(r=2, target_modules=["wide"]))


def test_patterns_give_layers_their_own_rank_and_alpha():
    config = EdoraConfig(
        r=2, alpha=4, target_modules="all-linear", rank_pattern={"wide": 5}, alpha_pattern={"^narrow": 7}
    )
    model = get_peft_model(TwoLayers(), config).base_model.model
    found = [
        (layer.rank["default"], layer.scaling["default"])
        for layer in (model.square, model.wide, model.narrow)
    ]
    assert found == [(2, 2.0), (5, 0.8), (2, 3.5)]


def test_exclusion_and_layer_indices():
    model = get_peft_model(
        make_roberta(), EdoraConfig(target_modules=["query"], layers_to_transform=[1], r=2)
    )
    assert model.base_model.targeted_module_names == ["roberta.encoder.layer.1.attention.self.query"]
    config = EdoraConfig(target_modules=TARGETS, exclude_modules=r".*layer\.0.*", r=2)
    assert len(get_peft_model(make_roberta(), config).base_model.targeted_module_names) == 4


def test_bias_choices_train_the_right_biases():
    for bias, count in (("none", 0), ("edora_only", 20), ("all", 12 + 20 + 7)):
        model = get_peft_model(TwoLayers(), EdoraConfig(r=2, target_modules=["wide"], bias=bias))
        assert count_trainable(model, "bias") == count


def test_a_trained_bias_gets_the_whole_gradient():
    model = get_peft_model(TwoLayers(), EdoraConfig(r=2, target_modules=["narrow"], bias="edora_only"))
    layer = model.base_model.model.narrow
    move_far(layer)
    model(torch.randn(5, 12)).sum().backward()
    assert torch.allclose(layer.bias.grad, torch.full((7,), 5.0), atol=1e-4)


def test_fan_in_fan_out_on_a_linear_layer_warns_and_changes_nothing():
    with pytest.warns(UserWarning, match="fan_in_fan_out=True has no effect"):
        model, layer = make_layer(20, 12, r=2, fan_in_fan_out=True)
    assert layer.edora_magnitude["default"].shape == (20,)
    assert model(torch.randn(2, 12)).shape == (2, 20)


def test_adapters_are_added_switched_and_deleted():
    model, layer = make_layer(20, 12, r=4)
    move_far(layer)
    x = torch.randn(6, 12)
    first = model(x)
    model.add_adapter("second", EdoraConfig(r=2, target_modules=["linear"], train_magnitude=False))
    assert torch.equal(model(x), first)
    assert not any(p.requires_grad for name, p in model.named_parameters() if "second" in name)
    model.set_adapter("second")
    move_far(layer, "second")
    assert count_trainable(model, "") == 2**2
    second = model(x)
    assert relative_error(second, first.detach()) > 1e-2
    model.set_adapter("default")
    assert torch.equal(model(x), first)
    model.delete_adapter("default")
    assert model.base_model.active_adapters == ["second"]
    assert torch.equal(model(x), second)
    assert not [name for name, _ in [*model.named_parameters(), *model.named_buffers()] if "default" in name]
    assert "default" not in layer.rank
    assert "default" not in layer.scaling


def test_an_adapter_of_the_same_name_is_replaced_as_a_whole():
    _, layer = make_layer(20, 12, r=4)
    config = EdoraConfig(r=2, target_modules=["linear"], train_magnitude=False)
    layer.update_layer("default", rank=2, alpha=16, config=config, layer_name="linear")
    assert "default" not in layer.edora_magnitude
    assert layer.edora_core["default"].shape == (2, 2)


def test_an_adapter_added_on_new_layers_does_not_train_before_it_is_chosen():
    model = get_peft_model(TwoLayers(), EdoraConfig(r=2, target_modules=["square"]))
    x = torch.randn(3, 12)
    before, trained = model(x), {name for name, p in model.named_parameters() if p.requires_grad}
    model.add_adapter("other", EdoraConfig(r=2, target_modules=["wide"], init_std=1.0))
    assert {name for name, p in model.named_parameters() if p.requires_grad} == trained
    assert torch.equal(model(x), before)


def test_init_seed_makes_adapters_independent_of_order_and_of_the_global_generator():
    def build(targets, **choices):
        state = torch.get_rng_state()
        model = get_peft_model(TwoLayers(), EdoraConfig(r=2, init_std=1.0, target_modules=targets, **choices))
        torch.set_rng_state(state)
        return model.base_model.model

    torch.manual_seed(0)
    one = build(["square", "wide", "narrow"], init_seed=3)
    torch.manual_seed(5)
    two = build(["narrow", "wide"], init_seed=3, bases="random")
    assert torch.equal(one.wide.edora_core["default"], two.wide.edora_core["default"])
    assert torch.equal(one.narrow.edora_core["default"], two.narrow.edora_core["default"])
    assert not torch.equal(one.wide.edora_core["default"], one.narrow.edora_core["default"])
    base = TwoLayers()
    before = torch.get_rng_state()
    get_peft_model(base, EdoraConfig(r=2, target_modules=["wide"], init_seed=0, bases="random"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(use_reentrant):
    batch, gradients = make_batch(), []
    for checkpointing in (False, True):
        model = adapt_roberta()
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model(**batch).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) == 8 * 2 + 4
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        assert torch.allclose(gradient, gradients[1][name], atol=1e-7), name


def test_training_lowers_the_loss_and_leaves_what_is_frozen():
    model, batch = adapt_roberta(), make_batch()
    frozen = {
        n: t.clone()
        for n, t in model.state_dict().items()
        if "edora_A" in n or "edora_B" in n or "base_l" in n
    }
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(15):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    for name, tensor in frozen.items():
        assert torch.equal(tensor, model.state_dict()[name]), name


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_equal_and_independent(clone):
    model, batch = adapt_roberta(), make_batch()
    wanted = model(**batch).logits
    twin = clone(model)
    assert torch.equal(twin(**batch).logits, wanted)
    twin.merge_adapter()
    for layer in twin.modules():
        if isinstance(layer, EdoraLayer):
            with torch.no_grad():
                layer.edora_magnitude["default"].zero_()
    assert torch.equal(model(**batch).logits, wanted)
    state = {name: 2 * tensor for name, tensor in twin.state_dict().items()}
    twin.unmerge_adapter()
    twin.load_state_dict(state)
    layer = next(module for module in twin.modules() if isinstance(module, EdoraLayer))
    other = next(module for module in model.modules() if isinstance(module, EdoraLayer))
    assert not torch.equal(layer.edora_coordinates["default"], other.edora_coordinates["default"])


def test_loading_base_weights_later_renews_the_norm():
    model, layer = make_layer(20, 12, r=4)
    move_far(layer)
    state = model.state_dict()
    key = "base_model.model.linear.base_layer.weight"
    state[key] = 3 * state[key] + 1
    model.load_state_dict(state)
    layer.edora_core["default"].data.zero_()
    norms = layer.original_weight.double().norm(dim=1)
    scale = layer._compute_scale("default").detach().double()
    assert torch.allclose(scale * norms, layer.edora_magnitude["default"].detach().double(), rtol=1e-5)


def test_importing_and_registering_again_changes_nothing():
    member, before = PeftType("EDORA"), list(PeftType)
    register_edora()
    importlib.reload(edora)
    assert PeftType("EDORA") is PeftType["EDORA"] is PeftType.EDORA is member
    assert list(PeftType) == before
    assert list(PeftType).count("EDORA") == 1
    assert pickle.loads(pickle.dumps(member)) is member


def test_a_foreign_method_of_the_same_name_is_reported(monkeypatch):
    from edora import model as edora_model

    monkeypatch.setitem(edora_model.PEFT_TYPE_TO_CONFIG_MAPPING, PeftType("EDORA"), LoraConfig)
    with pytest.raises(RuntimeError, match="already has a method EDORA"):
        register_edora()
