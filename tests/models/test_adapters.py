import dataclasses

import pytest
import torch

from glue_harness.errors import InputError, choices
from glue_harness.models.adapters import apply_method, build_adapter, parameter_groups
from glue_harness.models.backbone import load_backbone, outline_backbone
from glue_harness.sweeps.plan import plan


def adapted(config, seed=1):
    backbone = load_backbone(config.model, config.task, config.seed)
    return apply_method(backbone, config.model, config.method, seed)


# tiny_roberta: 2 layers of query, value (64x64), attention output (64x64), feed-forward output (64x128)
HEAD = 64 * 64 + 64 + 2 * 64 + 2
LORA_4 = 2 * 4 * (3 * (64 + 64) + (128 + 64))
OUTPUTS = 2 * 4 * 64


@pytest.mark.parametrize(
    ("method", "expected"), [("lora", LORA_4), ("dora", LORA_4 + OUTPUTS), ("edora", 8 * 4**2 + OUTPUTS)]
)
def test_adapter_counts_are_the_closed_forms(build_config, method, expected):
    _, parameters = adapted(build_config(f"method={method}", "rank=4"))
    assert (parameters.adapter, parameters.head) == (expected, HEAD)
    assert parameters.total == parameters.adapter + parameters.head


def closed_forms(architecture, rank):
    """Return what each method trains outside of the head, from the shapes of a layer's four target modules."""
    hidden, inner = architecture["hidden_size"], architecture["intermediate_size"]
    query = value = attention_output = (hidden, hidden)
    sides = [query, value, attention_output, (hidden, inner)]  # (out, in)
    outputs = sum(out for out, _ in sides)
    lora = sum(rank * (out + in_) for out, in_ in sides)
    edora = outputs + len(sides) * rank**2
    layer = {
        "head_only": 0,
        "magnitude_only": outputs,
        "lora": lora,
        "lora_qv": 2 * rank * (hidden + hidden),
        "dora": lora + outputs,
        "dora_factored": lora + outputs,
        "edora": edora,
        "edora_random": edora,
        "lora_xs": len(sides) * rank**2,
        "vera": 2 * (rank + hidden),
        "ia3": 3 * hidden + inner,  # outputs of query and value, inputs of the two output layers
    }
    return {method: architecture["num_hidden_layers"] * count for method, count in layer.items()}


METHODS = list(closed_forms(dict.fromkeys(("hidden_size", "intermediate_size", "num_hidden_layers"), 1), 1))


@pytest.mark.parametrize("model", choices("model"))
def test_every_method_on_every_model_counts_as_its_closed_form(model):
    for cell in plan([f"model={model}", f"method=full,{','.join(METHODS)}", "rank=5", "task=rte"]).cells:
        architecture, method = cell.config.model.architecture, cell.identity.method
        with torch.device("meta"):
            backbone = outline_backbone(cell.config.model, cell.config.task)
            _, parameters = apply_method(backbone, cell.config.model, cell.config.method, 1)
        hidden = architecture["hidden_size"]
        assert parameters.head == hidden * hidden + hidden + 2 * hidden + 2
        expected = closed_forms(architecture, 5) | {"full": parameters.backbone}
        assert parameters.adapter == expected[method], method


@pytest.mark.parametrize("model", choices("model"))
def test_the_first_two_target_modules_are_query_and_value(build_config, model):
    targets = build_config(f"model={model}", "trainer.max_length=8").model.target_modules
    assert targets[:2] in (["query", "value"], ["query_proj", "value_proj"], ["attn.q", "attn.v"])


def test_methods_without_a_rank_are_planned_once():
    cells = plan(["model=tiny_roberta", "method=full,head_only,magnitude_only,ia3,lora_xs", "rank=4,8"]).cells
    assert [cell.identity.label for cell in cells] == [
        "full", "head_only", "magnitude_only", "ia3", "lora_xs_r4", "lora_xs_r8",
    ]  # fmt: skip


def test_head_only_trains_the_head_and_nothing_else(build_config):
    config = build_config("method=head_only", "model=tiny_deberta")
    model, parameters = adapted(config)
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"pooler", "classifier"}
    assert (parameters.adapter, parameters.total) == (0, parameters.head)
    groups = parameter_groups(model, config.model.head_modules, config.trainer)
    assert [group["name"] for group in groups] == ["head"]


def test_a_label_names_the_rank_that_the_adapter_has(build_config):
    method = build_config("method=vera", "method.adapter.r=1024").method
    assert (method.label, build_adapter(method).r) == ("vera_r1024", 1024)


def test_full_trains_everything(build_config):
    model, parameters = adapted(build_config("method=full"))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert parameters.adapter == parameters.backbone
    assert parameters.total == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("method", ["lora", "dora", "edora"])
@pytest.mark.parametrize("model", ["tiny_roberta", "tiny_deberta"])
def test_only_adapter_and_whole_head_train(build_config, method, model):
    config = build_config(f"method={method}", f"model={model}")
    adapter_model, _ = adapted(config)
    trained = {name for name, parameter in adapter_model.named_parameters() if parameter.requires_grad}
    assert all(("lora_" in name) or ("edora_" in name) or ("modules_to_save" in name) for name in trained)
    for module in config.model.head_modules:
        assert any(f"{module}.modules_to_save" in name for name in trained)


def test_every_method_starts_from_the_same_head(build_config):
    heads = []
    for method in ("full", "lora", "edora"):
        model, _ = adapted(build_config(f"method={method}"))
        name = next(
            n for n, p in model.named_parameters() if n.endswith("dense.weight") and "classifier" in n
        )
        heads.append(dict(model.named_parameters())[name])
    assert torch.equal(heads[0], heads[1])
    assert torch.equal(heads[0], heads[2])


def test_adapter_comes_from_the_seed(build_config):
    def core(seed):
        model, _ = adapted(build_config("method=edora"), seed)
        return next(p for n, p in model.named_parameters() if "edora_core" in n)

    assert torch.equal(core(1), core(1))
    assert not torch.equal(core(1), core(2))


@pytest.mark.parametrize("targets", [["nix"], ["query", "nix"]])
def test_targets_that_match_nothing_are_refused(build_config, targets):
    config = build_config("method=lora", f"method.adapter.target_modules=[{','.join(targets)}]")
    with pytest.raises(InputError, match="nix") as caught:
        adapted(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("method", "found", "allowed"), [("lora", 8, 16), ("lora_qv", 4, 8)])
def test_half_an_adapter_is_refused(build_config, method, found, allowed):
    config = build_config(f"method={method}")
    model = dataclasses.replace(config.model, adapted_layers=16)
    backbone = load_backbone(config.model, config.task, 1)
    message = f"{found} layers adapted; allowed for model=tiny_roberta is {allowed}"
    with pytest.raises(InputError, match=message):
        apply_method(backbone, model, config.method, 1)


def test_one_name_may_be_two_modules(build_config):
    """PEFT matches by ending: `output.dense` is the attention's output, too."""
    _, parameters = adapted(
        build_config("method=lora", "method.adapter.target_modules=[output.dense]", "rank=4")
    )
    assert parameters.adapter == 2 * 4 * ((64 + 64) + (128 + 64))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+method.adapter.lora_beta=1", r"method.adapter \(peft.LoraConfig\): .*lora_beta"),
        ("method.adapter._target_=peft.NoSuchConfig", r"method.adapter \(peft.NoSuchConfig\)"),
        ("method.adapter._target_=builtins.dict", "allowed is a PEFT configuration class"),
    ],
)
def test_a_wrong_constructor_call_is_one_line(build_config, override, message):
    config = build_config("method=lora", override)
    with pytest.raises(InputError, match=message):
        build_adapter(config.method)


@pytest.mark.parametrize("decay_magnitude", [True, False])
def test_parameter_groups(build_config, decay_magnitude):
    settings = ["trainer.learning_rate=0.1", "trainer.head_learning_rate=0.2", "trainer.weight_decay=0.3"]
    config = build_config("method=edora", *settings, f"trainer.decay_magnitude={decay_magnitude}")
    model, parameters = adapted(config)
    groups = {g["name"]: g for g in parameter_groups(model, config.model.head_modules, config.trainer)}
    sizes = {name: sum(p.numel() for p in group["params"]) for name, group in groups.items()}
    assert sizes == {"adapter": 8 * 16**2, "magnitude": OUTPUTS, "head": HEAD}
    assert {name: group["lr"] for name, group in groups.items()} == {
        "adapter": 0.1,
        "magnitude": 0.1,
        "head": 0.2,
    }
    decays = {name: group["weight_decay"] for name, group in groups.items()}
    assert decays == {"adapter": 0.3, "magnitude": 0.3 if decay_magnitude else 0.0, "head": 0.3}
    assert sum(sizes.values()) == parameters.total
