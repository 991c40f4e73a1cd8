"""What EdoraConfig accepts, and what its errors say."""

import json

import pytest
from peft import PeftConfig
from peft.utils import PeftType

import edora
from edora import EdoraConfig

BAD = [
    ("r", 0), ("r", -4), ("r", 2.0), ("r", True), ("r", "8"), ("r", None),
    ("alpha", 0), ("alpha", -1.0), ("alpha", float("nan")), ("alpha", float("inf")),
    ("alpha", True), ("alpha", "16"),
    ("init_std", -1e-5), ("init_std", float("inf")), ("init_std", "1e-5"),
    ("dropout", 1.0), ("dropout", -0.1), ("dropout", None),
    ("bases", "SVD"), ("bases", None), ("singular_values", "left"), ("svd_algorithm", "fast"),
    ("bias", "lora_only"),
    ("train_core", 1), ("train_magnitude", "yes"), ("fan_in_fan_out", None),
    ("basis_seed", -1), ("basis_seed", None), ("init_seed", -1), ("init_seed", 1.5), ("init_seed", True),
    ("rank_pattern", {"query": 0}), ("rank_pattern", {"query": True}), ("rank_pattern", ["query"]),
    ("alpha_pattern", {"query": -2}), ("layers_pattern", "layer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}.*is not allowed; it has to be"):
        EdoraConfig(**{name: value})


def test_the_message_holds_the_value_and_the_legal_set():
    with pytest.raises(ValueError, match=r"bases='other'.*'svd', 'random'"):
        EdoraConfig(bases="other")
    with pytest.raises(ValueError, match=r"rank_pattern\['query'\]=0"):
        EdoraConfig(rank_pattern={"query": 0})


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match=r"train_magnitude.*nothing would train"):
        EdoraConfig(train_core=False, train_magnitude=False)


def test_a_regular_expression_excludes_layer_indices():
    with pytest.raises(ValueError, match="layers_to_transform"):
        EdoraConfig(target_modules=".*query", layers_to_transform=[0])


def test_defaults_are_the_papers():
    config = EdoraConfig()
    assert (config.alpha, config.init_std, config.bases, config.singular_values) == (16, 1e-5, "svd", "input")
    assert config.train_core
    assert config.train_magnitude
    assert config.dropout == 0.0
    assert config.bias == "none"
    assert config.peft_type is PeftType("EDORA")
    assert config.peft_type == "EDORA"


def test_legal_edges():
    EdoraConfig(r=1, alpha=0.5, init_std=0, dropout=0, init_seed=0, basis_seed=0, rank_pattern={"a": 1})


def test_round_trip_is_exact_and_its_bytes_repeat(tmp_path):
    config = EdoraConfig(r=3, target_modules={"b", "a", "c"}, rank_pattern={"a": 2}, init_seed=5)
    config.save_pretrained(tmp_path / "one")
    loaded = PeftConfig.from_pretrained(tmp_path / "one")
    assert isinstance(loaded, EdoraConfig)
    assert loaded == config
    loaded.save_pretrained(tmp_path / "two")
    texts = [(tmp_path / name / "adapter_config.json").read_text() for name in ("one", "two")]
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["target_modules"] == ["a", "b", "c"]


def test_every_field_is_documented():
    for name in EdoraConfig.__dataclass_fields__.keys() - PeftConfig.__dataclass_fields__.keys():
        assert f"        {name}: " in EdoraConfig.__doc__, name


def test_public_names():
    assert edora.__all__ == ["EdoraConfig", "EdoraModel", "FactoredDoraConfig"]
