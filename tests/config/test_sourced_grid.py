"""experiment=glue_all trains each method at values that a named source has published: they are the reference's."""

from dataclasses import asdict

import pytest

from glue_harness.sweeps.plan import plan
from tests.support.published_presets import SIX, middle, normal, one_rate, published, reference

LORA = ("lora_qv", "lora", "dora")
CENTRE = ("edora", "head_only", "lora_xs")
LABELS = {"full", "lora_qv_r8", "lora_r8", "lora_r16", "dora_r8", "dora_r16", "lora_xs_r16", "head_only"}
LABELS |= {"edora_r8", "edora_r16", "edora_r32"}


def of_preset(preset, name, *left_out):
    values = next(values for p, n, values in published() if (p, n) == (preset, name))
    return {path: value for path, value in values.items() if path not in left_out}


def full(model, task):
    if model == "roberta_large":
        return of_preset("fairseq", f"roberta_large_full_{task}")
    if model == "deberta_v3_base":
        script = reference()["hyperparameters"]["deberta_ft"]["scripts"][task]["base"]
        return {
            "model.architecture.cls_dropout": script["cls_dropout"],
            "trainer.epochs": script["epochs"],
            "trainer.batch_size": script["batch"],
            "trainer.max_length": script["max_len"],
            "trainer.warmup_steps": script["warmup_steps"],
            **one_rate(script["lr"]),
        }
    return {"trainer.epochs": "10", "trainer.weight_decay": "0.1", **one_rate("2e-5")}


def lora(model, task, rank):
    if model != "deberta_v3_base":
        preset = (
            "lora_paper_dagger" if model == "roberta_large" else "lora_paper"
        )  # from no MNLI run, as here
        values = of_preset(preset, f"{model}_lora_qv_{task}", "rank")
        alpha = int(values["method.adapter.lora_alpha"]) * rank // 8
        return values | {"method.adapter.lora_alpha": alpha}
    script = reference()["hyperparameters"]["adalora_deberta_v3_base"]["scripts"][task]
    steps = {"trainer.warmup_steps": script["warmup_steps"]} if "warmup_steps" in script else {}
    share = {"trainer.warmup_share": script["warmup_ratio"]} if "warmup_ratio" in script else {}
    return {
        "method.adapter.lora_alpha": script["lora_alpha"],
        "model.architecture.cls_dropout": script["cls_dropout"],
        "trainer.epochs": script["num_train_epochs"],
        "trainer.batch_size": script["per_device_train_batch_size"],
        "trainer.max_length": script["max_seq_length"],
        "trainer.weight_decay": script["weight_decay"],
        **one_rate(script["learning_rate"]),
        **steps,
        **share,
    }


def centre(model, method, task):
    if (model, method) == ("roberta_large", "lora_xs"):
        return of_preset("lora_xs_code", f"roberta_large_lora_xs_{task}", "method.adapter.init_std")
    entry = reference()["hyperparameters"]["edora_code"]
    return {
        "trainer.epochs": entry["epochs"],
        "trainer.batch_size": entry["batch"],
        "trainer.max_length": entry["max_len"],
        "trainer.learning_rate": middle(entry["lr"]),
        "trainer.head_learning_rate": middle(entry["cls_lr"]),
        "trainer.warmup_share": "0.06",
    }


def find(config, path):
    for name in path.split("."):
        config = config[name]
    return normal(config)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["roberta_base", "roberta_large", "deberta_v3_base"])
def test_every_run_has_the_values_of_its_source(model):
    cells = plan(["experiment=glue_all", f"model={model}", "only.seed=[1]"]).cells
    assert len(cells) == len(SIX) * len(LABELS)
    assert {cell.config.method.label for cell in cells} == LABELS
    for cell in cells:
        method, task = cell.config.method.name, cell.config.task.name
        expected = full(model, task) if method == "full" else None
        expected = lora(model, task, cell.config.rank) if method in LORA else expected
        expected = centre(model, method, task) if method in CENTRE else expected
        values = asdict(cell.config)
        found = {path: find(values, path) for path in expected}
        assert found == {path: normal(value) for path, value in expected.items()}, (method, task)


def test_other_models_and_the_paper_s_protocol_keep_the_grid_of_the_experiment():
    for override in ("model=tiny_roberta", "trainer=paper"):
        cells = plan(["experiment=glue_all", override, "only.method=[lora]", "only.task=[rte]"]).cells
        assert {cell.config.trainer.learning_rate for cell in cells} == {5e-4}
        assert {cell.config.trainer.epochs for cell in cells} == {50 if override == "trainer=paper" else 10}


@pytest.mark.parametrize(
    ("axis", "choices", "name"),
    [
        ("model", ["roberta_base", "roberta_large"], "glue_all-roberta_base-roberta_large"),
        ("trainer", ["fast", "paper"], "glue_all-fast-paper"),
    ],
)
def test_each_choice_of_a_sweep_is_trained_with_the_values_it_has_alone(axis, choices, name):
    part = ["experiment=glue_all", "only.method=[lora,full]", "only.task=[rte]", "only.seed=[1]"]
    swept = plan([*part, f"{axis}={','.join(choices)}"])
    alone = [cell.key for choice in choices for cell in plan([*part, f"{axis}={choice}"]).cells]
    assert [cell.key for cell in swept.cells] == alone
    assert swept.name == name
