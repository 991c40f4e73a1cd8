import csv
import io

import pytest
from safetensors.torch import load_file

from glue_harness.models.adapters import apply_method
from glue_harness.models.backbone import load_backbone
from glue_harness.reports.table import to_latex, to_markdown
from glue_harness.reports.tables.costs import VALUE_BYTES, build_cost_table, to_cost_csv
from tests.support.scored_runs import make_runs, make_selection

MIB = 2**20
PROOFS = ("_hash", "_sketch")
"""What EDoRA saves to know its base again: a few hundred bytes a layer."""


def make_costs(task, method, seconds, statuses=None, **changes):
    """Return runs that took `seconds` each, at 2000 / seconds rows a second and a MiB a second of memory."""
    rows = make_runs(task, method, [0.5] * len(seconds), statuses=statuses, **changes)
    for row, taken in zip(rows, seconds, strict=True):
        if row["status"] == "complete":
            row |= {
                "train_seconds": taken,
                "eval_seconds": taken / 100,
                "peak_memory_bytes": int(taken * MIB),
            }
            row |= {"train_examples_per_second": 2000 / taken}
        if row["status"] in ("failed", "missing"):
            row["score"] = None
        row |= {"device": "cpu", "threads": 1, "processes": 1} | changes
    return rows


def show(rows):
    return to_markdown(build_cost_table(make_selection(rows), "Cost"))


def cell_texts(rows):
    lines = [line for line in show(rows).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_cell_is_the_median_and_the_spread_of_its_runs():
    rows = make_costs("rte", "lora", [400.0, 100.0, 200.0])
    # medians 200 s, 2 s, 10 rows/s (5, 20, 10), 200 MiB; deviations from the mean by hand: 152.75…, 7.63…
    # the checkpoint: (1,622,016 + 592,130) * 4 / 2^20 = 8.446…
    assert cell_texts(rows) == [
        ["RTE", "LoRA (r=16)", "200 ± 153", "2.0 ± 1.5", "10.0 ± 7.6", "200 ± 153", "8.4"]
    ]


def test_methods_of_a_task_stand_together_and_columns_have_one_unit():
    rows = [row for m in ("lora", "edora") for t in ("cola", "rte") for row in make_costs(t, m, [100.0])]
    assert [row[:2] for row in cell_texts(rows)] == [
        ["CoLA", "LoRA (r=16)"],
        ["CoLA", "EDoRA (r=16)"],
        ["RTE", "LoRA (r=16)"],
        ["RTE", "EDoRA (r=16)"],
    ]
    assert "Training (s)" in show(rows)
    assert "Peak memory (MiB)" in show(rows)


def test_a_missing_or_failed_run_leaves_the_cell_visible_without_a_number():
    statuses = ["complete", "failed", "missing"]
    (row,) = cell_texts(make_costs("rte", "lora", [100.0] * 3, statuses=statuses))
    assert row[2:6] == ["-- (1/3)"] * 4
    assert "only k of its n planned runs" in show(make_costs("rte", "lora", [100.0] * 3, statuses=statuses))


def test_a_diverged_run_is_counted_and_does_not_enter():
    rows = make_costs("rte", "lora", [100.0, 300.0, 1.0], statuses=["complete", "complete", "diverged"])
    assert cell_texts(rows)[0][2] == "200 ± 141 ‡1"
    assert "‡k: k diverged; they do not enter." in show(rows)
    assert cell_texts(make_costs("rte", "lora", [1.0], statuses=["diverged"]))[0][2] == "--"


def test_mixed_hardware_is_marked():
    one = make_costs("rte", "lora", [100.0, 100.0])
    one[1] |= {"numerics": 2}  # methods of several packages, or an older commit
    assert "Machine: Xeon @ 2.1GHz, cpu, fp32, 1 thread, 1 process." in show(one)
    other = make_costs("rte", "edora", [50.0, 50.0])
    other[1] |= {"hardware": "H100", "device": "cuda", "precision": "bf16", "threads": None, "processes": 2}
    text = show([*one, *other])
    assert [row[-1] for row in cell_texts([*one, *other])] == ["A", "A + B"]
    assert "B H100, cuda, bf16, 2 processes. Only rows of the same letter compare." in text
    assert "their median is no machine's own" in text


def test_of_several_settings_the_chosen_ones_cost_is_shown():
    rows = [
        row | {"searched": f"rate={rate}", "score": score}
        for rate, score, seconds in ((1, 0.6, 100.0), (2, 0.8, 300.0), (3, 0.7, 900.0))
        for row in make_costs("rte", "lora", [seconds, seconds])
    ]
    assert cell_texts(rows)[0][2] == "300 ± 0"
    rows[0] |= {"score": None, "status": "missing"}
    assert cell_texts(rows)[0][2] == "-- (5/6)"


def test_the_csv_holds_base_units():
    rows = make_costs("rte", "lora", [400.0, 100.0, 200.0])
    (line,) = csv.DictReader(io.StringIO(to_cost_csv(make_selection(rows))))
    assert float(line["train_seconds"]) == 200.0
    assert float(line["peak_memory_bytes"]) == 200 * MIB
    assert int(line["checkpoint_bytes"]) == 4 * (1_622_016 + 592_130)
    assert line["machines"] == "Xeon @ 2.1GHz, cpu, fp32, 1 thread, 1 process"
    (line,) = csv.DictReader(io.StringIO(to_cost_csv(make_selection(make_runs("rte", "lora", [None])))))
    assert (line["train_seconds"], line["machines"]) == ("", "")


@pytest.mark.parametrize(
    "method", ["lora", "lora_qv", "dora", "lora_xs", "edora", "magnitude_only", "edora_random"]
)
def test_a_checkpoint_has_the_size_that_the_counts_say(method, build_config, tmp_path):
    settings = {"edora", "lora_xs", "edora_random", "magnitude_only"} & {method}
    overrides = ["+method.adapter.save_bases=false"] if settings else []
    config = build_config("model=tiny_roberta", "task=rte", f"method={method}", "rank=4", *overrides)
    backbone = load_backbone(config.model, config.task, seed=1)
    model, parameters = apply_method(backbone, config.model, config.method, seed=1)
    model.save_pretrained(str(tmp_path))
    (path,) = tmp_path.glob("*.safetensors")
    values = {name: tensor for name, tensor in load_file(path).items() if not name.endswith(PROOFS)}
    assert sum(tensor.nbytes for tensor in values.values()) == VALUE_BYTES * parameters.total


def test_many_rows_go_on_in_further_latex_environments():
    tasks = ["rte", "cola", "mrpc", "qnli", "sst2"]
    rows = [row for t in tasks for rank in range(1, 11) for row in make_costs(t, "lora", [9.0], rank=rank)]
    tex = to_latex(build_cost_table(make_selection(rows), "Cost"), "demo_cost")
    first, second = tex.split("\\end{table}\n")[:2]
    assert (first.count("LoRA (r="), second.count("LoRA (r=")) == (30, 20)
    assert "\\label{tab:demo_cost}" in first
    assert (
        "\\caption{Cost, continued; the notes are below its first part.}\n\\label{tab:demo_cost_2}" in second
    )
    assert ("minipage" in first, "minipage" in second) == (True, False)
    assert (
        to_latex(build_cost_table(make_selection(rows[:10]), "Cost"), "demo_cost").count("begin{table}") == 1
    )
