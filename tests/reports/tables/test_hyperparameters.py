import csv
import io
import re
from dataclasses import replace

from glue_harness.reports.table import to_markdown
from glue_harness.reports.tables.hyperparameters import build_hyperparameter_table, to_hyperparameter_csv
from tests.support.scored_runs import PROTOCOL, make_runs, make_selection

PLANNED = {
    **{"batch_size": 32, "warmup_share": 0.06, "weight_decay": 0.01},
    **{"max_grad_norm": 1.0, "max_length": 128},
}


def make(task, method, scores=(0.7,), **changes):
    return make_runs(task, method, list(scores), **(PLANNED | changes))


def show(rows, protocol=PROTOCOL):
    return to_markdown(build_hyperparameter_table(make_selection(rows, protocol), "Hyper-parameters"))


def cell_texts(rows):
    lines = [line for line in show(rows).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines[2:]]


SHARED = ["16", "5", "32", "6 %", "0.01", "1", "128", "fp32", "fast"]


def test_tasks_that_share_their_values_share_a_row():
    rows = [*make("rte", "lora"), *make("cola", "lora"), *make("mrpc", "lora", learning_rate=1e-5)]
    assert cell_texts(rows[:2]) == [["LoRA (r=16)", "all", "0.002", "0.003", *SHARED]]
    assert cell_texts(rows) == [
        ["LoRA (r=16)", "RTE, CoLA", "0.002", "0.003", *SHARED],
        ["LoRA (r=16)", "MRPC", "1e-05", "0.003", *SHARED],
    ]


def test_ranks_that_share_their_values_are_named_together():
    rows = [*make("rte", "edora", rank=4), *make("rte", "edora", rank=8)]
    assert [row[0] for row in cell_texts(rows)] == ["EDoRA (r=4, 8)"]
    rows[1]["max_steps"] = 90
    assert [(row[0], row[5]) for row in cell_texts(rows)] == [
        ("EDoRA (r=4)", "5"),
        ("EDoRA (r=8)", "90 steps"),
    ]


def test_the_head_alone_has_no_rate_of_an_adapter():
    assert cell_texts(make("rte", "head_only", rank=None))[0][2:4] == ["--", "0.003"]


def test_a_warm_up_in_steps_is_said_so():
    assert cell_texts(make("rte", "lora", warmup_steps=0))[0][7] == "0 steps"


def test_a_precision_is_of_runs_and_all_of_them_are_named():
    assert cell_texts(make("rte", "lora", [None], precision=None))[0][11] == "--"
    rows = make("rte", "lora", [0.7, 0.7, None])
    rows[1]["precision"] = "bf16"
    rows[2]["precision"] = None
    assert cell_texts(rows)[0][11] == r"fp32 \| bf16"


def test_models_are_groups_and_settings_rows():
    rows = [row for m in ("tiny", "large") for row in make("rte", "lora", model=m)]
    assert [row[:2] for row in cell_texts(rows)] == [["tiny", "LoRA (r=16)"], ["large", "LoRA (r=16)"]]
    rows = [row for n in (1, 2) for row in make("rte", "lora", epochs=n, settings=f"trainer.epochs={n}")]
    assert [row[0] for row in cell_texts(rows)] == ["LoRA (r=16), epochs=1", "LoRA (r=16), epochs=2"]


def make_search(scores):
    """Return runs of one cell on two seeds, a setting for each of `scores`, of rate 0.1, 0.2 and so on."""
    return [
        row | {"searched": f"rate={number}", "cell": f"cell{number}", "learning_rate": number / 10}
        for number, score in enumerate(scores, start=1)
        for row in make("rte", "lora", [score, score])
    ]


def test_of_several_settings_the_chosen_one_is_shown():
    rows = make_search([0.6, 0.8, 0.7])
    assert cell_texts(rows)[0][2] == "0.2"
    rows[0] |= {"score": None, "status": "missing"}
    assert cell_texts(rows)[0][2] == "3 values"


def test_where_the_halves_of_dev_choose_different_settings_both_are_shown():
    rows = make_search([0.6, 0.7])
    for row in rows:
        row["selecting"] = (0.9, 0.1) if row["cell"] == "cell1" else (0.5, 0.5)
        row |= {"reported": (row["score"],) * 2, "selected_epochs": (1, 1)}
    halves = replace(PROTOCOL, name="held_out", dev="halves")
    text = show(rows, halves)
    assert r"0.1 \| 0.2" in text
    assert "a | b: the two halves" in text


def test_the_csv_has_a_line_for_each_set_of_values():
    rows = [*make("rte", "lora", [0.7] * 3), *make("cola", "lora", [0.7] * 3, learning_rate=1e-5)]
    lines = list(csv.DictReader(io.StringIO(to_hyperparameter_csv(make_selection(rows)))))
    assert [(line["task"], float(line["learning_rate"])) for line in lines] == [("rte", 2e-3), ("cola", 1e-5)]
    assert {(line["warmup_share"], line["precision"]) for line in lines} == {("0.06", "fp32")}
