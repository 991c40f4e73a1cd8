"""Staged initialisation: what a run takes from another task's run, and what it refuses to start from."""

import itertools
import re
import shutil
import subprocess
import sys

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from glue_harness.errors import InputError, choices
from glue_harness.models.adapters import apply_method
from glue_harness.models.backbone import load_backbone
from glue_harness.models.warm_start import load_trained, start_from_source
from glue_harness.runs.index import take_inventory
from glue_harness.runs.record import TRAINED_WEIGHTS, Status, find_source, read_record, write_record
from glue_harness.sweeps.plan import plan
from glue_harness.sweeps.stages import order_stages
from glue_harness.training.run import run_once
from tests.support.planned_runs import GPU

SMALL = ["data=miniature", "trainer=smoke", "rank=4"]
OUTPUT = {
    "tiny_roberta": "base_model.model.classifier.out_proj",
    "tiny_deberta": "base_model.model.classifier",
}


def one_cell(*overrides):
    (cell,) = plan(["model=tiny_roberta", *SMALL, "method=edora", *overrides]).cells
    return cell


def build_model(cell):
    backbone = load_backbone(cell.config.model, cell.config.task, cell.config.seed)
    model, _ = apply_method(backbone, cell.config.model, cell.config.method, cell.config.seed)
    return model


def make_source(cell):
    """Run the source of `cell`, a few steps long, and return its cell."""
    overrides = [o for o in cell.overrides if o.partition("=")[0] not in ("task", "init_from")]
    (source,) = plan([*overrides, f"task={cell.config.init_from}"]).cells
    assert run_once(source.config, source.identity, show_progress=False).state == Status.COMPLETE
    return source


@pytest.mark.parametrize(
    ("model", "method"),
    [
        *itertools.product(
            ["tiny_roberta"], ["lora", "lora_qv", "dora", "edora", "lora_xs", "magnitude_only", "vera", "ia3"]
        ),
        *itertools.product(["tiny_deberta"], ["dora", "edora"]),
    ],
)
def test_all_but_the_output_layer_comes_from_the_source(tmp_path, model, method):
    fp32 = "trainer.precision=fp32"  # conf/method/vera.yaml says why
    cell = one_cell(
        f"model={model}", f"method={method}", "task=rte", "init_from=mnli", fp32, f"runs_dir={tmp_path}"
    )
    source = make_source(cell)
    drawn = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(build_model(cell)).items()}
    adapted = build_model(cell)
    start_from_source(adapted, cell.config, cell.identity)
    saved, got = load_file(source.folder / TRAINED_WEIGHTS), get_peft_model_state_dict(adapted)
    assert got.keys() == saved.keys()
    own = {name for name in got if name.rpartition(".")[0] == OUTPUT[model]}
    assert {name.rpartition(".")[2] for name in own} == {"weight", "bias"}
    for name, tensor in got.items():
        assert torch.equal(tensor, (drawn if name in own else saved)[name]), name
    taken = [name for name in got if name not in own and not torch.equal(drawn[name], saved[name])]
    assert any("classifier.dense" in name or "pooler.dense" in name for name in taken)
    assert any("classifier" not in name and "pooler" not in name for name in taken)


def test_a_run_starts_from_its_source_and_is_another_run(tmp_path):
    staged = one_cell("task=rte", "init_from=mnli", f"runs_dir={tmp_path}")
    plain = one_cell("task=rte", f"runs_dir={tmp_path}")
    assert staged.identity.source == ("mnli", staged.source.cell_hash)
    assert plain.identity.source is None
    assert staged.identity.cell_hash != plain.identity.cell_hash
    make_source(staged)
    for cell in (staged, plain):
        assert run_once(cell.config, cell.identity, show_progress=False).state == Status.COMPLETE
    assert staged.record().identity.planned["init_from"] == f"mnli@{staged.source.cell_hash}"
    assert staged.record().epochs != plain.record().epochs


@pytest.mark.parametrize(
    "change", ["trainer.learning_rate=0.5", "trainer.max_steps=5", "method=lora", "rank=8"]
)
def test_another_source_is_another_run(change):
    """What is planned of the source is part of the identity, also where it comes from the source's own task."""
    base, changed = (one_cell("task=rte", "init_from=mnli", *more) for more in ([], [change]))
    assert base.source.cell_hash != changed.source.cell_hash
    assert base.identity.planned["init_from"] != changed.identity.planned["init_from"]


def test_the_source_has_its_own_tasks_tuned_values(tmp_path, monkeypatch):
    from glue_harness.errors import CONF

    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / "tuned" / "tiny_roberta_edora_mnli.yaml").write_text("learning_rate: 0.25\n")
    before = one_cell("task=rte", "init_from=mnli", "trainer=fast")
    monkeypatch.setattr("glue_harness.sweeps.plan.CONF", tmp_path / "conf")
    after = one_cell("task=rte", "init_from=mnli", "trainer=fast")
    assert after.source.identity.planned["trainer"]["learning_rate"] == 0.25
    assert after.identity.planned["trainer"] == before.identity.planned["trainer"]
    assert after.identity.config_hash != before.identity.config_hash


def test_seed_and_rank_are_the_sources_too():
    cells = plan(
        ["model=tiny_roberta", *SMALL[:2], "task=rte", "init_from=mnli", "rank=4,8", "seed=1,2"]
    ).cells
    assert [(cell.source.config.rank, cell.source.config.seed) for cell in cells] == [
        (4, 1),
        (4, 2),
        (8, 1),
        (8, 2),
    ]


@pytest.mark.parametrize(
    "spoil",
    [
        {"status": Status.DIVERGED},
        {"environment": {"device": "elsewhere"}},
        {"numerics": 0},
        {"planned": {"trainer": "another"}},
    ],
)
def test_only_a_complete_run_made_as_here_is_a_source(tmp_path, spoil):
    cell = one_cell("task=rte", "init_from=mnli", f"runs_dir={tmp_path}")
    source = make_source(cell)
    assert find_source(cell.identity, tmp_path) == source.folder
    record = read_record(source.folder)
    if "environment" in spoil:
        spoil = {"environment": record.identity.environment.model_copy(update=spoil["environment"])}
    identity = record.identity if "status" in spoil else record.identity.model_copy(update=spoil)
    status = spoil.get("status", record.status)
    write_record(record.model_copy(update={"status": status, "identity": identity}), source.folder)
    assert find_source(cell.identity, tmp_path) is None


def test_a_source_without_weights_is_none(tmp_path):
    """A restored run has a record and logits, but no adapter."""
    cell = one_cell("task=rte", "init_from=mnli", f"runs_dir={tmp_path}")
    source = make_source(cell)
    (source.folder / TRAINED_WEIGHTS).unlink()
    assert find_source(cell.identity, tmp_path) is None
    with pytest.raises(
        InputError, match="init_from=mnli: .*make it first: the same command with task=mnli init_from=null"
    ):
        run_once(cell.config, cell.identity, show_progress=False)
    assert not cell.folder.exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors: tensors.pop(next(iter(tensors))),
        lambda tensors: tensors.update(more=torch.zeros(1)),
        lambda tensors: tensors.update({name: tensors[name][:1] for name in [next(iter(tensors))]}),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path, spoil):
    cell = one_cell("task=rte", "init_from=mnli", f"runs_dir={tmp_path}")
    model = build_model(cell)
    tensors = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}
    spoil(tensors)
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="weights.safetensors: .* is not as in this run's model"):
        load_trained(model, tmp_path / "weights.safetensors", cell.config.model.head_modules)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init_from=nix"], "init_from=nix: allowed is one of cola, mnli, qnli, "),
        (["task=mnli", "init_from=mnli"], "init_from=mnli: allowed is one of cola, mrpc, "),
        (["method=full", "init_from=mnli"], "init_from=mnli: allowed is null for method=full"),
        (["method=head_only", "init_from=mnli"], "init_from=mnli: allowed is null for method=head_only"),
    ],
)
def test_what_cannot_be_started_from_is_one_line(overrides, message):
    with pytest.raises(InputError) as caught:
        one_cell(*overrides)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_sources_of_the_same_sweep_run_first(tmp_path):
    grid = "experiment.grid=[{task: [rte, stsb], init_from: [null, mnli]}, {task: [mnli]}]"
    cells = plan(["model=tiny_roberta", *SMALL, grid, f"runs_dir={tmp_path}"]).cells
    (first, second), blocked = order_stages(cells)
    assert not blocked
    assert {(cell.config.task.name, cell.config.init_from) for cell in first} == {
        ("rte", None),
        ("stsb", None),
        ("mnli", None),
    }
    assert [(cell.config.task.name, cell.config.init_from) for cell in second] == [
        ("rte", "mnli"),
        ("stsb", "mnli"),
    ]


def test_a_missing_source_is_named_with_the_command_that_makes_it(tmp_path):
    overrides = ["model=tiny_roberta", *SMALL, "task=rte", "init_from=mnli", f"runs_dir={tmp_path}"]
    (cell,) = plan(overrides).cells
    with pytest.raises(InputError) as caught:
        order_stages([cell])
    line, _, command = str(caught.value).partition("make it first: edora-glue train ")
    assert line.startswith(f"init_from=mnli: {tmp_path}/tiny_roberta/mnli/")
    (named,) = plan(command.split()).cells
    assert named.identity == cell.source.identity
    assert run_once(named.config, named.identity, show_progress=False).state == Status.COMPLETE
    assert order_stages([cell]) == ([[cell]], [])


def test_where_jobs_run_on_other_machines_a_source_of_theirs_is_one(tmp_path):
    staged = one_cell("task=rte", "init_from=mnli", f"runs_dir={tmp_path}")
    source = make_source(staged)
    record = source.record()
    there = record.identity.model_copy(update={"environment": GPU})
    shutil.move(source.folder, tmp_path / there.folder)
    write_record(record.model_copy(update={"identity": there}), tmp_path / there.folder)
    with pytest.raises(InputError, match="holds no complete run to start from"):
        order_stages([staged])
    inventory = take_inventory(tmp_path, ["tiny_roberta"])
    assert order_stages([staged], inventory) == ([[staged]], [])
    (tmp_path / there.folder / TRAINED_WEIGHTS).unlink()
    with pytest.raises(InputError, match="holds no complete run to start from"):
        order_stages([staged], inventory)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("diverged", r"has diverged, so there is nothing to start from"),
        (
            "restored",
            r"was restored without its weights; remove that folder, then make it: edora-glue train ",
        ),
        ("failed", r"holds no complete run to start from; make it first: edora-glue train "),
    ],
)
def test_a_run_that_cannot_start_keeps_no_other_from_running(tmp_path, spoil, reason):
    plain = one_cell("task=rte", f"runs_dir={tmp_path}")
    staged = one_cell("task=rte", "init_from=mnli", f"runs_dir={tmp_path}")
    source = make_source(staged)
    if spoil == "restored":
        (source.folder / TRAINED_WEIGHTS).unlink()
    else:
        write_record(source.record().model_copy(update={"status": Status(spoil)}), source.folder)
    stages, (line,) = order_stages([staged, plain])
    assert stages == [[plain]]
    assert re.search(rf"^init_from=mnli: {source.folder} {reason}", line)
    with pytest.raises(InputError, match=reason):
        order_stages([staged])


def test_what_cannot_start_is_listed_at_the_end_of_a_sweep(tmp_path):
    grid = "experiment.grid=[{task: [rte], init_from: [null, mnli]}]"
    command = [
        sys.executable,
        "-m",
        "glue_harness",
        "train",
        "-m",
        "model=tiny_roberta",
        *SMALL,
        "method=edora",
    ]
    sweep = subprocess.run(
        [*command, grid, f"runs_dir={tmp_path}"], capture_output=True, text=True, check=False
    )
    assert sweep.returncode == 1
    assert "2 runs, 0 done, 1 to do" in sweep.stderr
    assert "1 complete, 1 blocked" in sweep.stderr
    assert "blocked: init_from=mnli: " in sweep.stderr


def test_the_staged_experiment_starts_three_tasks_from_mnli():
    cells = plan(["experiment=staged"]).cells
    starts = {(cell.config.task.name, cell.config.init_from) for cell in cells}
    assert starts == {("mnli", None)} | {
        (task, start) for task in ("mrpc", "rte", "stsb") for start in ("mnli", None)
    }
    planned = {cell.key for cell in cells}
    assert all(cell.source is None or cell.source.key in planned for cell in cells)
    assert "staged" in choices("experiment")
