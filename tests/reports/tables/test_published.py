"""Beside published scores: what is compared, what must not be, and where each number comes from."""

from dataclasses import replace
from pathlib import Path

import pytest

from glue_harness.analysis.published import Published, read_published
from glue_harness.analysis.summary import select
from glue_harness.errors import InputError
from glue_harness.evidence.collect import collect
from glue_harness.reports.table import to_latex, to_markdown
from glue_harness.reports.tables.published import build_published_table, is_alike, to_published_csv
from glue_harness.sweeps.plan import plan
from tests.support.planned_runs import BEST, make_cell, make_plan, make_record, write_run
from tests.support.published_presets import reference

GOLDEN = Path(__file__).parents[2] / "support" / "golden"
LORA = Published(
    model="roberta_base",
    label="lora_r16",
    statistic="median of 5 seeds",
    from_mnli=["rte"],
    source="A paper, table 2",
    scores={"rte": 86.6, "cola": 63.4, "stsb": 91.5},
    spreads={"cola": 1.2},
)


@pytest.fixture
def selected(tmp_path):
    """Return a function: pairs of a cell and its score (None: no run) -> a selection."""

    def gather(*scored):
        for cell, score in scored:
            if score is not None:
                write_run(make_record(cell, scores=(0.1, score)), tmp_path / "runs")
        plan = make_plan([cell for cell, _ in scored], tmp_path)
        return select(collect(plan, tmp_path / "runs", tmp_path / "results"), BEST)

    return gather


def cells(*tasks, seeds=(1,), **settings):
    return [make_cell(task, model="roberta_base", seed=seed, **settings) for task in tasks for seed in seeds]


def rows_of(table):
    return [[f"{e.text} {e.marks}".strip() for e in row] for group in table.groups for row in group]


def test_each_task_has_ours_theirs_and_the_difference_in_points(selected):
    cola, rte = cells("cola", "rte")
    table = build_published_table(selected((cola, 0.62), (rte, 0.7)), [LORA], "T")
    assert table.head[2:] == [("CoLA", "Matthews"), ("RTE", "accuracy")]
    assert rows_of(table) == [
        ["LoRA (r=16)", "reproduced", "62.0", "70.0"],
        ["LoRA (r=16)", "published [a]", "63.4", "86.6"],
        ["LoRA (r=16)", "difference", "-1.4", "-- §"],
    ]
    text = to_markdown(table)
    assert "[a] A paper, table 2; median of 5 seeds; RTE start from MNLI." in text
    assert "--§: one starts from an MNLI run and the other does not" in text
    assert r"-- \S{}" in to_latex(table, "published")


def test_a_run_that_starts_from_mnli_is_compared_with_one_that_does(selected):
    (rte,) = cells("rte")
    table = build_published_table(with_start(selected((rte, 0.86)), "mnli"), [LORA], "T")
    assert rows_of(table)[2] == ["LoRA (r=16)", "difference", "-0.6"]
    plain = LORA.model_copy(update={"from_mnli": []})
    assert (
        rows_of(build_published_table(with_start(selected((rte, 0.86)), "mnli"), [plain], "T"))[2][-1]
        == "-- §"
    )
    assert rows_of(build_published_table(selected((rte, 0.86)), [plain], "T"))[2][-1] == "-0.6"


def with_start(selection, task):
    return replace(selection, chosen=selection.chosen.assign(init_from=task))


@pytest.mark.parametrize(("task", "compared"), [("rte", False), ("stsb", False), ("cola", True)])
def test_where_the_source_does_not_say_the_small_tasks_are_not_compared(selected, task, compared):
    (cell,) = cells(task)
    unknown = LORA.model_copy(update={"from_mnli": None})
    table = build_published_table(selected((cell, 0.6)), [unknown], "T")
    assert (rows_of(table)[2][-1] != "-- §") == compared
    assert "start not said" in to_markdown(table)


def test_our_own_start_counts_where_the_source_does_not_say(selected):
    (cell,) = cells("cola")
    unknown = LORA.model_copy(update={"from_mnli": None})
    started = with_start(selected((cell, 0.6)), "mnli")
    assert rows_of(build_published_table(started, [unknown], "T"))[2][-1] == "-- §"


def test_rows_that_one_source_stands_beside_share_its_letter(selected):
    slow, fast = (cells("cola", learning_rate=rate)[0] for rate in (1e-3, 5e-4))
    table = build_published_table(selected((slow, 0.6), (fast, 0.6)), [LORA], "T")
    assert [row[1] for row in rows_of(table)][1::3] == ["published [a]", "published [a]"]


def test_a_missing_run_stays_visible(selected):
    one, two = cells("cola", seeds=(1, 2))
    table = build_published_table(selected((one, 0.6), (two, None)), [LORA], "T")
    assert [row[-1] for row in rows_of(table)] == ["-- (1/2)", "63.4", "--"]


@pytest.mark.parametrize(
    "change", [{"model": "roberta_large"}, {"label": "lora_r8"}, {"scores": {"qnli": 90.0}}]
)
def test_without_a_counterpart_there_is_no_table(selected, change):
    (cell,) = cells("cola")
    assert build_published_table(selected((cell, 0.6)), [LORA.model_copy(update=change)], "T") is None


def test_two_sources_of_one_row_stand_side_by_side(selected):
    (cell,) = cells("cola")
    other = LORA.model_copy(update={"source": "Another paper", "scores": {"cola": 60.0}, "spreads": {}})
    table = build_published_table(selected((cell, 0.6)), [LORA, other], "T")
    assert [row[1] for row in rows_of(table)][1::3] == ["published [a]", "published [b]"]
    assert [row[-1] for row in rows_of(table)][2::3] == ["-3.4", "0.0"]


def test_the_csv_holds_raw_numbers(selected):
    cola, rte = cells("cola", "rte")
    header, *lines = to_published_csv(selected((cola, 0.625), (rte, 0.7)), [LORA]).splitlines()
    assert header.endswith(
        "task,headline,init_from,statistic,entered,planned,published,published_spread,difference,source"
    )
    assert lines[0].endswith(
        'cola,matthews_correlation,,0.625,1,1,63.4,1.2,-0.8999999999999986,"A paper, table 2"'
    )
    assert lines[1].endswith(',0.7,1,1,86.6,,,"A paper, table 2"')


@pytest.mark.parametrize("ending", ["md", "tex", "csv"])
def test_golden_files(selected, ending):
    selection = selected(*zip(cells("cola", "rte", seeds=(1, 2)), (0.62, 0.64, 0.7, 0.72), strict=True))
    table = build_published_table(selection, [LORA], "Beside others")
    made = {
        "md": lambda: to_markdown(table),
        "tex": lambda: to_latex(table, "published"),
        "csv": lambda: to_published_csv(selection, [LORA]),
    }
    assert made[ending]() == (GOLDEN / f"table_published.{ending}").read_text()


def test_the_committed_rows_are_the_reference_s():
    """Each row's scores stand together, with their spreads, in an entry of the reference with the same model."""
    entries = reference()["results"]
    for row in read_published():
        ours = {task: (score, row.spreads.get(task)) for task, score in row.scores.items()}
        found = [read_entry(entry) for entry in entries if normal(entry["model"]) == row.model]
        assert any(ours.items() <= entry.items() for entry in found), (row.model, row.label)


def read_entry(entry):
    """Return a reference entry's scores by our tasks; of two metrics, accuracy and Pearson."""
    scores = {}
    for name, value in entry["tasks"].items():
        task = name.removesuffix("_acc").removesuffix("_pearson")
        value = value if isinstance(value, dict) else {"value": value}
        scores[task] = (float(value["value"]), float(value["pm"]) if "pm" in value else None)
    return scores


def normal(model):
    return model.rpartition("/")[2].replace("-", "_")


@pytest.mark.parametrize("model", ["roberta_base", "roberta_large"])
def test_experiment_lora_paper_has_a_run_beside_every_figure_of_lora_s_table(model):
    (theirs,) = (
        row for row in read_published() if (row.model, row.label) == (model, "lora_qv_r8") and row.from_mnli
    )
    configs = [cell.config for cell in plan(["experiment=lora_paper", f"model={model}"]).cells]
    assert {config.method.label for config in configs} == {theirs.label}
    starts = {config.task.name: config.init_from for config in configs}
    assert starts.keys() == theirs.scores.keys()
    assert all(is_alike({"task": task, "init_from": start}, theirs) for task, start in starts.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {model: roberta_base}", "0.label: Field required"),
        (
            "- {model: x, label: full, statistic: s, from_mnli: [], source: s, scores: {}}",
            "0.model=x: allowed is one of",
        ),
        (
            "- {model: minilm, label: full, statistic: s, from_mnli: [], source: s, scores: {nix: 1}}",
            "0: task=nix: allowed is one of cola, ",
        ),
        ("- {", "not readable"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "published.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_published(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
