"""From finished runs to what the leaderboard takes, on the miniature text as a folder of parquet files."""

from dataclasses import replace

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from safetensors.torch import load_file, save_file

from glue_harness.cli import submit as command
from glue_harness.cli.submit import submit
from glue_harness.data import miniature
from glue_harness.errors import InputError
from glue_harness.reports import leaderboard
from glue_harness.reports.leaderboard import SHEETS
from glue_harness.runs.record import TRAINED_WEIGHTS, Status
from glue_harness.sweeps.plan import plan
from glue_harness.training.run import run_once
from tests.support.planned_runs import GPU, make_cell, make_plan, make_record, write_run

TRAINED_TASKS = ("rte", "stsb", "mnli")


@pytest.fixture
def glue(tmp_path, monkeypatch):
    """Write the miniature GLUE as parquet files, in the place of the published rows; the sheets have its numbers."""
    rows = {}
    for task in (*TRAINED_TASKS, "cola"):
        labels = plan([f"task={task}", "model=tiny_roberta"]).cells[0].config.task.labels
        for split, columns in miniature.generate(task).items():
            rows[task, split] = len(columns["label"])
            write_rows(tmp_path / "glue" / task / f"{split}-00000-of-00001.parquet", columns, labels)
    small = [replace(sheet, rows=rows.get((sheet.task, sheet.split), 7)) for sheet in SHEETS]
    for module in (leaderboard, command):
        monkeypatch.setattr(module, "SHEETS", small)
    monkeypatch.setattr("glue_harness.data.sources._check_published", lambda *_: None)
    return tmp_path / "glue"


def write_rows(path, columns, labels):
    kinds = {name: Value("string") for name in columns} | {
        "label": ClassLabel(names=labels) if labels else Value("float32")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(
        {name: list(column) for name, column in columns.items()}, features=Features(kinds)
    ).to_parquet(path)


@pytest.fixture
def overrides(glue, tmp_path):
    tasks = ",".join((*TRAINED_TASKS, "cola"))
    return [
        *("model=tiny_roberta", "data=local", f"data.root={glue}", "trainer=smoke", "method=edora", "rank=4"),
        *(f"task={tasks}", "seed=1,2", "trainer.head_learning_rate=1e-2"),
        *(f"runs_dir={tmp_path / 'runs'}", f"results_dir={tmp_path / 'results'}"),
    ]


def finish(overrides, tasks=TRAINED_TASKS):
    """Run the cells of some tasks and return them by (task, seed)."""
    cells = {(c.identity.task, c.identity.seed): c for c in plan(overrides).cells if c.identity.task in tasks}
    for cell in cells.values():
        assert run_once(cell.config, cell.identity, show_progress=False).state == Status.COMPLETE
    return cells


def read_predictions(archive, name):
    lines = (archive.with_suffix("") / f"{name}.tsv").read_text().splitlines()[1:]
    return [line.split("\t")[1] for line in lines]


@pytest.mark.slow
def test_the_best_run_of_each_task_predicts_and_the_rest_is_filled_up(overrides, tmp_path, capsys):
    cells = finish(overrides)
    archive = submit(overrides)
    assert archive == tmp_path / "results" / "sweep" / "submission" / "edora_r4.zip"
    best = max(
        (cells["rte", seed] for seed in (1, 2)),
        key=lambda c: c.record().epochs[-1].metrics["all"]["accuracy"],
    )
    logits = predict_longhand(best, "test")
    assert read_predictions(archive, "RTE") == [best.config.task.labels[i] for i in logits.argmax(axis=1)]
    scores = [float(text) for text in read_predictions(archive, "STS-B")]
    expected = {s: np.clip(predict_longhand(cells["stsb", s], "test")[:, 0], 0, 5) for s in (1, 2)}
    assert any(np.abs(scores - found).max() < 0.02 for found in expected.values())
    assert len(read_predictions(archive, "MNLI-mm")) == 126
    warnings = capsys.readouterr().err
    assert "warning: CoLA: no finished run that keeps its weights; every row gets '" in warnings
    assert "the most frequent of train" in warnings
    assert "warning: QNLI: no finished run that keeps its weights; every row gets 'entailment'" in warnings
    assert "warning: AX: data.root=" in warnings
    assert read_predictions(archive, "QNLI") == ["entailment"] * 7
    assert submit(overrides).read_bytes() == archive.read_bytes()


def predict_longhand(cell, split):
    """Predict row by row with the merged weights, without the harness's batches."""
    import torch
    from peft import PeftModel

    from glue_harness.data.sources import load_split
    from glue_harness.models.backbone import load_backbone, load_tokenizer

    base = load_backbone(cell.config.model, cell.config.task, cell.config.seed)
    model = PeftModel.from_pretrained(base, str(cell.folder / "adapter")).merge_and_unload().eval()
    tokenizer = load_tokenizer(cell.config.model)
    rows = load_split(cell.config.data, cell.config.task, split)
    texts = zip(*(rows[name][:] for name in cell.config.task.text_columns), strict=True)
    length = cell.config.trainer.max_length
    with torch.no_grad():
        return np.concatenate(
            [
                model(**tokenizer(*row, truncation=True, max_length=length, return_tensors="pt")).logits
                for row in texts
            ]
        )


def test_runs_of_another_machine_are_chosen_too(tmp_path):
    """A login node without a GPU submits what the GPU nodes have trained."""
    own = [make_cell(seed=seed) for seed in (1, 2, 3, 4)]
    for cell, score in zip(own, (0.7, 0.8, 0.6, 0.9), strict=True):
        elsewhere = make_cell(seed=cell.config.seed, environment=GPU)
        folder = write_run(make_record(elsewhere, scores=(0.95, score)), tmp_path / "runs")
        if score != 0.9:
            (folder / TRAINED_WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
            (folder / TRAINED_WEIGHTS).touch()
    planned = make_plan(own, tmp_path)
    chosen = command._choose_run(planned, "rte", planned.take_inventory())
    assert chosen.cell is own[1]
    assert chosen.folder == tmp_path / "runs" / make_cell(seed=2, environment=GPU).identity.folder


@pytest.mark.slow
def test_weights_that_do_not_give_the_run_s_dev_logits_are_refused(overrides):
    one_task = [*overrides[:6], "task=rte", "seed=1", *overrides[8:]]
    (cell,) = finish(one_task, ["rte"]).values()
    tensors = load_file(cell.folder / TRAINED_WEIGHTS)
    name = next(name for name in tensors if "classifier" in name and tensors[name].ndim == 2)
    save_file(tensors | {name: tensors[name] * 3}, cell.folder / TRAINED_WEIGHTS)
    with pytest.raises(InputError, match="its weights give dev logits .* from those that it wrote"):
        submit(one_task)
    save_file({key: value for key, value in tensors.items() if key != name}, cell.folder / TRAINED_WEIGHTS)
    with pytest.raises(InputError, match="is not as in this run's model"):
        submit(one_task)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ["method=edora,lora"],
            "only: edora_r4 of tiny_roberta, lora_r4 of tiny_roberta are 2 systems; allowed is one",
        ),
        (["method=full"], "method=full: its runs keep no weights; allowed is a method with an adapter"),
        (
            ["data=miniature", "data.root=null"],
            "data=miniature: generated text has no leaderboard; allowed is hub or local",
        ),
        ([], "no finished run of edora_r4 keeps its weights"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, change, message):
    overrides = ["model=tiny_roberta", "data=local", "data.root=none", "rank=4", "task=rte", "method=edora"]
    replaced = [o for o in overrides if o.partition("=")[0] not in {c.partition("=")[0] for c in change}]
    with pytest.raises(InputError) as caught:
        submit([*replaced, *change, f"runs_dir={tmp_path / 'runs'}", f"results_dir={tmp_path / 'results'}"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()
