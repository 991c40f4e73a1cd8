import dataclasses

import pytest
import torch

from glue_harness.backbone import load_backbone
from glue_harness.errors import InputError
from glue_harness.method import apply_method, build_adapter, parameter_groups


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


def test_half_an_adapter_is_refused(build_config):
    config = build_config("method=lora")
    model = dataclasses.replace(config.model, adapted_layers=16)
    backbone = load_backbone(config.model, config.task, 1)
    with pytest.raises(InputError, match="8 layers adapted; allowed for model=tiny_roberta is 16"):
        apply_method(backbone, model, config.method, 1)


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
