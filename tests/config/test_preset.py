"""Presets: each value is the reference's, each file composes, and nothing is silently ignored."""

import itertools
import shutil

import pytest
from omegaconf import OmegaConf

from glue_harness.errors import CONF, InputError, choices
from glue_harness.sweeps.plan import plan
from tests.support.published_presets import DEBERTA, normal, published, reference

SMALL = ("mrpc", "rte", "stsb")  # the tasks that papers start from an MNLI run
PRESETS = choices("preset")
FILES = [(preset, name) for preset in PRESETS for name in choices(f"preset/{preset}")]


def preset_values(preset, name):
    """What a preset sets for one model, method and task, by dotted name."""
    common, own = (
        OmegaConf.load(CONF / "preset" / path) for path in (f"{preset}.yaml", f"{preset}/{name}.yaml")
    )
    common.pop("defaults")
    shared = flatten(OmegaConf.to_container(common)).keys() & flatten(OmegaConf.to_container(own)).keys()
    assert not shared, "a preset's common values come later, so they may not meet a task's own"
    return flatten(OmegaConf.to_container(OmegaConf.merge(common, own)))


def flatten(value, path=""):
    if not isinstance(value, dict):
        return {path: value}
    return {
        key: v
        for name, item in value.items()
        for key, v in flatten(item, f"{path}.{name}".lstrip(".")).items()
    }


def split_name(name):
    """A file's name as model, method and task; skips where the tree does not have one of them yet."""
    run, _, task = name.rpartition("_")
    method = next(m for m in ("lora_qv", "lora_xs", "edora", "full") if run.endswith(f"_{m}"))
    parts = {"model": run.removesuffix(f"_{method}"), "method": method, "task": task}
    for group, choice in parts.items():
        if choice not in choices(group):
            pytest.skip(f"there is no {group}={choice} yet")
    return parts


def test_presets_hold_the_published_values_and_nothing_else():
    expected = {(preset, name): values for preset, name, values in published()}
    assert set(FILES) == set(expected)
    for key, values in expected.items():
        found = {path: normal(value) for path, value in preset_values(*key).items()}
        assert found == {path: normal(value) for path, value in values.items()}, key


def test_the_decay_of_lora_s_scripts():
    """LoRA's table 9 prints none for RoBERTa; every script that it was made with has the same."""
    scripts = reference()["hyperparameters"]["lora_scripts"]["scripts"]
    of_roberta = [script for model in scripts if "roberta" in model for script in scripts[model].values()]
    assert {script["weight_decay"] for script in of_roberta} == {"0.1"}
    assert len(of_roberta) == 16


def test_the_daggers_rank():
    """It is the r at which LoRA on q and v has the 0.8M parameters of the table's row."""
    (row,) = (row for row in reference()["results"] if row["id"] == "lora_t2_rob_large_lora_dagger")
    count = int(reference()["derived_param_counts"]["lora_qv"]["roberta_large_r8"])
    assert row["trainable_params"] == f"{count / 1e6:.1f}M"


@pytest.mark.parametrize(("preset", "name"), FILES)
def test_every_preset_file_names_its_source(preset, name):
    first = (CONF / "preset" / preset / f"{name}.yaml").read_text().partition("\n")[0]
    head = (CONF / "preset" / f"{preset}.yaml").read_text()
    place = first.removeprefix("# ").split()[0]  # microsoft/LoRA@c4593f0, or arXiv
    assert place in head
    if place != "arXiv":
        assert place.partition("@")[0] in " ".join(
            s["source"] for s in reference()["hyperparameters"].values()
        )


def test_what_cannot_be_expressed_is_said():
    sources = reference()["hyperparameters"]
    for model, tasks in sources["lora_scripts"]["scripts"].items():
        for task, script in tasks.items():
            unset = [f"{key} {script[key]}" for key in ("eval_steps", "lora_path") if key in script]
            unset += ["fp16 true"] * (script["fp16"] == "true")
            assert_said("lora_repo", f"{model}_lora_qv_{task}", unset)
    for task, (model, size) in itertools.product(sources["deberta_ft"]["scripts"], DEBERTA.items()):
        if (script := sources["deberta_ft"]["scripts"][task].get(size)) is not None:
            unset = [f"{key} true" for key in ("fp16", "init_from_mnli") if script[key] == "true"]
            assert_said("deberta_repo", f"{model}_full_{task}", unset)
    for task in SMALL:
        for preset, name in (
            ("lora_paper", "roberta_base_lora_qv"),
            ("lora_xs_code", "roberta_large_lora_xs"),
        ):
            assert_said(preset, f"{name}_{task}", ["it starts from an MNLI run"])


def assert_said(preset, name, unset):
    comments = (CONF / "preset" / preset / f"{name}.yaml").read_text()
    for text in unset:
        assert text in comments, (preset, name)


@pytest.mark.parametrize(("preset", "name"), FILES)
def test_every_preset_composes_for_every_task_it_has(preset, name):
    """The method comes with the preset; what the preset sets is what the run gets."""
    parts = split_name(name)
    (cell,) = plan([f"preset={preset}", f"model={parts['model']}", f"task={parts['task']}"]).cells
    assert {axis: getattr(cell.identity, axis) for axis in parts} == parts
    got = {"trainer": vars(cell.config.trainer), "rank": cell.config.rank}
    got |= {
        "method": {"adapter": cell.config.method.adapter},
        "model": {"architecture": cell.config.model.architecture},
    }
    resolved = flatten(got)
    for path, value in preset_values(preset, name).items():
        assert normal(resolved[path]) == normal(value), path


def test_a_preset_wins_over_the_trainer_and_the_command_line_over_both():
    trainers = [
        plan([*chosen, "model=roberta_base", "method=edora", "trainer=fast"]).cells[0].config.trainer
        for chosen in ([], ["preset=edora_code"], ["preset=edora_code", "trainer.epochs=3"])
    ]
    assert [trainer.epochs for trainer in trainers] == [10, 50, 3]
    assert [trainer.learning_rate for trainer in trainers] == [1e-3, 6e-4, 6e-4]
    assert trainers[1].eval_batch_size == trainers[0].eval_batch_size  # not the source's business


def test_a_presets_rank_gives_way_to_the_command_line_and_to_a_sweep(planted_preset):
    def ranks(*overrides):
        return [
            cell.identity.rank for cell in plan([f"preset={planted_preset}", "task=mrpc", *overrides]).cells
        ]

    assert ranks() == [8]
    assert ranks("rank=4") == [4]
    assert ranks("rank=4,12") == [4, 12]


def test_a_preset_wins_over_a_tuned_file(planted_preset):
    trainers = [
        plan([*chosen, "method=lora", "trainer=fast"]).cells[0].config.trainer
        for chosen in ([], [f"preset={planted_preset}"])
    ]
    assert [trainer.learning_rate for trainer in trainers] == [0.25, 0.125]
    assert [trainer.head_learning_rate for trainer in trainers] == [0.5, 0.5]


@pytest.fixture
def planted_preset(tmp_path, monkeypatch):
    """A conf/ with tuned values and a preset `planted` (rank, learning rate) for roberta_base, LoRA and MRPC."""
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    (conf / "preset" / "planted").mkdir()
    (conf / "preset" / "planted.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n"
        "  - override /method: lora\n"
        "  - override /preset@_global_: planted/${model}_${method}_${task}\n"
    )
    values = "rank: 8\ntrainer: {learning_rate: 0.125}\n"
    (conf / "preset" / "planted" / "roberta_base_lora_mrpc.yaml").write_text(values)
    (conf / "tuned").mkdir(exist_ok=True)
    tuned = "learning_rate: 0.25\nhead_learning_rate: 0.5\n"
    (conf / "tuned" / "roberta_base_lora_mrpc.yaml").write_text(tuned)
    monkeypatch.setattr("glue_harness.sweeps.plan.CONF", conf)
    monkeypatch.setattr("glue_harness.errors.CONF", conf)
    return "planted"


def test_a_sweep_over_tasks_gives_each_its_own_values():
    planned = plan(["preset=edora_code", "task=rte,cola", "seed=1,2"])
    cells = [(cell.identity.task, cell.identity.seed, cell.config.trainer.epochs) for cell in planned.cells]
    assert cells == [("rte", 1, 50), ("rte", 2, 50), ("cola", 1, 50), ("cola", 2, 50)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["preset=nix"], "preset=nix: allowed is one of deberta_repo, edora_code, "),
        (
            ["preset=edora_code", "model=minilm", "task=mrpc"],
            "preset=edora_code: has nothing for minilm_edora_mrpc; allowed is roberta_base_edora (cola mrpc qnli rte sst2 stsb)",
        ),
        (
            ["preset=edora_code", "method=full"],
            "preset=edora_code: has nothing for roberta_base_full_mrpc; allowed is ",
        ),
        (
            ["experiment=demo", "preset=edora_code"],
            "preset=edora_code: has nothing for minilm_edora_mrpc; allowed is ",
        ),
        (
            ["preset=edora_code/roberta_base_edora_mrpc"],
            "preset: there is no such key; known: checkpoint_minutes, ",
        ),
    ],
)
def test_what_a_preset_does_not_have_is_one_line(overrides, message):
    with pytest.raises(InputError) as caught:
        plan(overrides)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_experiments_results_under_a_preset_have_a_name_of_their_own():
    small = [
        "experiment=rank_sweep",
        "only.task=[rte]",
        "only.rank=[4]",
        "only.seed=[1]",
        "only.method=[edora]",
    ]
    assert plan(small).name == "rank_sweep"
    assert plan([*small, "preset=edora_code"]).name == "rank_sweep-edora_code"
