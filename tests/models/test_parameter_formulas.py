import pytest

from glue_harness.cli import params
from glue_harness.errors import InputError
from glue_harness.models.parameter_formulas import count_adapter


@pytest.mark.parametrize(
    ("rank", "edora", "lora_xs", "lora", "dora"),
    [
        (4, 37_632, 768, 405_504, 442_368),
        (16, 49_152, 12_288, 1_622_016, 1_658_880),
        (32, 86_016, 49_152, 3_244_032, 3_280_896),
    ],
)
def test_known_counts_on_roberta_base(rank, edora, lora_xs, lora, dora):
    found = [count_adapter("roberta_base", name, rank) for name in ("edora", "lora_xs", "lora", "dora")]
    assert found == [edora, lora_xs, lora, dora]
    assert count_adapter("roberta_base", "lora_qv", 8) == 294_912


@pytest.mark.parametrize("model", ["minilm", "tiny_deberta", "tiny_roberta"])
def test_the_built_models_counts_are_the_closed_forms(model):
    methods = "method=lora,lora_qv,dora,edora,edora_random,lora_xs"
    counts = params.compare([f"model={model}", methods, "rank=5"])
    assert len(counts) == 6
    for count in counts:
        assert count.parameters.adapter == count_adapter(model, count.method, 5), count.label


@pytest.mark.parametrize(
    ("model", "method", "message"),
    [
        ("nix", "edora", "model=nix: allowed is one of "),
        ("minilm", "vera", "method=vera: allowed is one of lora"),
    ],
)
def test_what_has_no_closed_form_is_one_line(model, method, message):
    with pytest.raises(InputError, match=message):
        count_adapter(model, method, 4)
