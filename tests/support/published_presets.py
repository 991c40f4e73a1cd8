"""What presets should hold: the reference's published hyper-parameters, longhand."""

import functools
import itertools
from pathlib import Path

import pytest
import yaml

SIX = ["cola", "sst2", "mrpc", "stsb", "qnli", "rte"]
DEBERTA = {
    "deberta_v3_base": "deberta-v3-base",
    "deberta_v3_large": "deberta-v3-large",
    "deberta_v2_xxlarge": "xxlarge-v2",
}


@functools.cache
def reference():
    """The published values, as text where YAML 1.1 would read 5e-4 as text and 0.1 as a number."""
    for folder in Path(__file__).parents:
        path = folder / "shared" / "reference" / "published_results.yaml"
        if path.exists():
            return yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    pytest.skip("shared/reference/published_results.yaml is not beside this checkout")


def published():
    """Yield (preset, model_method_task, values by dotted name), longhand from the reference."""
    sources = reference()["hyperparameters"]
    yield from lora_repo(sources["lora_scripts"]["scripts"])
    yield from lora_paper(sources["lora_paper_table9_10"])
    yield from fairseq(sources["fairseq_roberta_ft"])
    yield from deberta_repo(sources["deberta_ft"]["scripts"])
    yield from edora_code(sources["edora_code"])
    yield from lora_xs_code(sources["lora_xs_code"])


def one_rate(rate):
    return {"trainer.learning_rate": rate, "trainer.head_learning_rate": rate}


def of_task(value, task):
    return value[task] if isinstance(value, dict) else value


def lora_repo(scripts):
    for model, tasks in scripts.items():
        for task, script in tasks.items():
            values = {
                "rank": script["lora_r"],
                "method.adapter.lora_alpha": script["lora_alpha"],
                "trainer.epochs": script["num_train_epochs"],
                "trainer.batch_size": int(script["num_gpus"]) * int(script["per_device_train_batch_size"]),
                "trainer.weight_decay": script["weight_decay"],
                "trainer.max_length": script["max_seq_length"],
                "trainer.padding": "max_length",
                **one_rate(script["learning_rate"]),
            }
            if "cls_dropout" in script:
                values["model.architecture.cls_dropout"] = script["cls_dropout"]
            if "warmup_ratio" in script:
                values["trainer.warmup_share"] = script["warmup_ratio"]
            if "warmup_steps" in script:
                values["trainer.warmup_steps"] = script["warmup_steps"]
            if script["fp16"] == "false":
                values["trainer.precision"] = "fp32"
            yield "lora_repo", f"{model}_lora_qv_{task}", values


def lora_paper(tables):
    for table, preset, model in (
        ("roberta_base", "lora_paper", "roberta_base"),
        ("roberta_large", "lora_paper", "roberta_large"),
        ("deberta_xxl", "lora_paper", "deberta_v2_xxlarge"),
        ("roberta_large_dagger", "lora_paper_dagger", "roberta_large"),
    ):
        entry = tables[table]
        # The dagger's r is not in the reference; q, v at this r have its 0.8M: see test_the_daggers_rank.
        assert entry.get("r", "r_q=r_v=8").startswith("r_q=r_v=8")
        for task in entry["lr"]:
            values = {
                "rank": 8,
                "method.adapter.lora_alpha": entry["alpha"],
                "trainer.epochs": entry["epochs"][task],
                "trainer.batch_size": of_task(entry["batch"], task),
                "trainer.warmup_share": tables["common"]["warmup_ratio"][table.partition("_")[0]],
                "trainer.max_length": of_task(entry["max_len"], task),
                **one_rate(entry["lr"][task]),
            }
            # RoBERTa's is not in the table: see test_the_decay_of_lora_s_scripts.
            values["trainer.weight_decay"] = "0.1"
            if table == "deberta_xxl":
                values["trainer.weight_decay"] = entry["weight_decay"][task]
                values["model.architecture.cls_dropout"] = entry["cls_dropout"][task]
            yield preset, f"{model}_lora_qv_{task}", values


def fairseq(entry):
    common = entry["common"]
    assert common["warmup"] == "about 6% (QQP 25%)"
    for task, rate in entry["lr"].items():
        warmup = 0.25 if task == "qqp" else 0.06
        in_steps = int(entry["warmup_updates"][task]) / int(entry["total_num_update"][task])
        assert in_steps == pytest.approx(warmup, abs=0.001)
        values = {
            "trainer.epochs": common["epochs"],
            "trainer.batch_size": entry["batch"][task],
            "trainer.weight_decay": common["weight_decay"],
            "trainer.warmup_share": warmup,
            "trainer.max_grad_norm": common["clip_norm"],
            "trainer.max_length": common["max_positions"],
            **one_rate(rate),
        }
        yield "fairseq", f"roberta_large_full_{task}", values


def deberta_repo(scripts):
    for task, (model, size) in itertools.product(scripts, DEBERTA.items()):
        if (script := scripts[task].get(size)) is not None:
            values = {
                "model.architecture.cls_dropout": script["cls_dropout"],
                "trainer.epochs": script["epochs"],
                "trainer.batch_size": script["batch"],
                "trainer.max_length": script["max_len"],
                "trainer.warmup_steps": script["warmup_steps"],
                **one_rate(script["lr"]),
            }
            yield "deberta_repo", f"{model}_full_{task}", values


def edora_code(entry):
    assert entry["optimizer"].startswith("torch AdamW, weight_decay 0.01 ")
    assert entry["schedule"] == "linear, 6% warm-up"
    for task in SIX:
        values = {
            "method.adapter.alpha": entry["alpha"],
            "method.adapter.dropout": entry["dropout_lora"],
            "trainer.epochs": entry["epochs"],
            "trainer.batch_size": entry["batch"],
            "trainer.learning_rate": middle(entry["lr"]),
            "trainer.head_learning_rate": middle(entry["cls_lr"]),
            "trainer.weight_decay": 0.01,
            "trainer.decay_magnitude": "true",
            "trainer.warmup_share": 0.06,
            "trainer.max_grad_norm": entry["grad_clip"],
            "trainer.max_length": entry["max_len"],
            "trainer.padding": entry["padding"],
            "trainer.precision": entry["precision"],
        }
        yield "edora_code", f"roberta_base_edora_{task}", values


def lora_xs_code(entry):
    for script in (entry["from_scratch"], entry["from_mnli"]):
        for task in script["tasks"]:
            values = {
                "method.adapter.alpha": script["alpha"],
                "method.adapter.init_std": entry["r_init_sigma"],
                "trainer.epochs": script["epochs"],
                "trainer.batch_size": script["batch"],
                "trainer.learning_rate": middle(script["lr"]),
                "trainer.head_learning_rate": middle(script["cls_lr"]),
                "trainer.warmup_share": {"6%": 0.06, "none": 0.0}[script["warmup"]],
                "trainer.max_length": script["max_len"],
            }
            yield "lora_xs_code", f"roberta_large_lora_xs_{task}", values


def middle(values):
    """The middle of a searched list by size, of two the lower."""
    return sorted(values, key=float)[(len(values) - 1) // 2]


def normal(value):
    """One form for a value from YAML and one from the reference's text."""
    text = str(value).lower()
    try:
        return float(text)
    except ValueError:
        return text
