import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from glue_harness import io as files
from glue_harness.analysis.summary import select
from glue_harness.cli.main import main
from glue_harness.config.schema import Experiment, Protocol
from glue_harness.errors import InputError
from glue_harness.evidence import files as evidence_files
from glue_harness.reports import build as aggregate
from glue_harness.runs.record import Status
from glue_harness.sweeps import plan as sweep
from tests.support.planned_runs import BEST, LAST, make_cell, make_plan, make_record, write_run

NAMES = ("main", "cost", "hyperparameters")
"""The tables that every experiment has."""

TABLES = {f"table_{name}.{ending}" for name in NAMES for ending in ("md", "tex", "csv")}
FIGURES = {f"figure_{name}.{ending}" for name in ("scores", "curves", "costs") for ending in ("png", "pdf")}
PAPER_LAST = Protocol("paper_last", "last", "median", "last epoch of each run")
CLAIMS = {"claims.md"}
FILES = {*evidence_files.FILES, *TABLES, *CLAIMS, *FIGURES, "index.html"}


@pytest.fixture
def plan(tmp_path):
    cells = [
        make_cell(task, method, seed=seed)
        for method in ("full", "lora")
        for task in ("rte", "cola")
        for seed in (1, 2)
    ]
    for number, cell in enumerate(cells[:-2]):
        write_run(make_record(cell, scores=(0.6 + number / 100, 0.5)), tmp_path / "runs")
    write_run(make_record(cells[-2], status=Status.DIVERGED), tmp_path / "runs")
    write_run(make_record(cells[-1], status=Status.FAILED), tmp_path / "runs")
    return make_plan(cells, tmp_path)


@pytest.fixture(autouse=True)
def planned(plan, monkeypatch):
    """Stand in for the sweep: `only.task=[rte]` and a protocol are the overrides that change the plan."""

    def choose(overrides):
        if "protocol=paper_last" in overrides:
            return replace(plan, config=replace(plan.config, protocol=PAPER_LAST))
        if "only.task=[rte]" in overrides:
            return replace(plan, cells=[cell for cell in plan.cells if cell.config.task.name == "rte"])
        return plan

    monkeypatch.setattr(sweep, "plan", choose)


DRAW = aggregate.draw


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Stand in for drawing, which takes its second: a figure's content is its name."""

    def name_figures(collected, selection, plan, suffix=""):
        return {name.replace(".", f"{suffix}."): name.encode() for name in FIGURES}

    monkeypatch.setattr(aggregate, "draw", name_figures)


@pytest.fixture
def drawn(quick, monkeypatch):
    monkeypatch.setattr(aggregate, "draw", DRAW)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results" / "demo"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_writes_evidence_and_tables_and_returns_the_table(folder):
    shown = aggregate.aggregate(["experiment=demo"])
    assert set(contents(folder)) == FILES
    assert shown == (folder / "table_main.md").read_text()
    assert "| Full fine-tuning |" in shown
    assert "60.5 ± 0.7" in shown  # full on rte: 0.60 and 0.61
    assert "-- (1/2) ‡1" in shown  # lora on cola: one diverged, one failed
    assert "Runs: 8 planned, 6 complete, 1 failed, 1 diverged, 0 missing; 0 degenerate." in shown


def test_rebuilding_gives_the_same_bytes_with_and_without_runs(folder, tmp_path):
    aggregate.aggregate([])
    first = contents(folder)
    aggregate.aggregate([])
    assert contents(folder) == first
    shutil.rmtree(tmp_path / "runs")
    aggregate.aggregate([])
    assert contents(folder) == first


def test_tables_and_figures_derive_from_the_evidence_alone(folder, plan, drawn):
    aggregate.aggregate([])
    committed = evidence_files.read(folder)
    selection = select(committed, plan.config.protocol)
    tables = aggregate.build_tables(selection, plan)
    published = aggregate.publish(committed, selection, tables, plan)
    assert published == {name: (folder / name).read_bytes() for name in FILES - {*evidence_files.FILES}}


def test_a_chosen_protocol_has_files_of_its_own_beside_the_experiments(folder):
    aggregate.aggregate([])
    first = contents(folder)
    shown = aggregate.aggregate(["protocol=paper_last"])
    own = {name.replace(".", "_paper_last.") for name in TABLES | CLAIMS | FIGURES | {"index.html"}}
    assert set(contents(folder)) == FILES | own
    assert {name: contents(folder)[name] for name in FILES} == first
    assert shown == (folder / "table_main_paper_last.md").read_text()
    assert "50.0 ± 0.0" in shown
    assert "60.5 ± 0.7" in (folder / "table_main.md").read_text()


def test_the_experiments_own_protocol_chosen_by_name_has_the_experiments_files(folder):
    shown = aggregate.aggregate(["protocol=best_epoch"])
    assert set(contents(folder)) == FILES
    assert shown == (folder / "table_main.md").read_text()


@pytest.mark.parametrize("overrides", [[], ["protocol=paper_last"]])
def test_the_files_of_every_protocol_follow_the_evidence(folder, plan, tmp_path, overrides):
    aggregate.aggregate(["protocol=paper_last"])
    first = contents(folder)
    write_run(make_record(plan.cells[-1], scores=(0.7, 0.4)), tmp_path / "runs")
    aggregate.aggregate(overrides)
    for name in ("table_main.md", "index.html", "table_main_paper_last.md", "index_paper_last.html"):
        assert contents(folder)[name] != first[name]


@pytest.fixture
def swept(plan, tmp_path):
    """The plan of two methods that differ by their bases, at two ranks on two seeds; one run is missing."""
    cells = [
        make_cell("rte", method, rank=rank, seed=seed)
        for method in aggregate.ABLATION
        for rank in (4, 8)
        for seed in (1, 2)
    ]
    for number, cell in enumerate(cells[:-1]):
        write_run(make_record(cell, scores=(0.6 + number / 100, 0.5)), tmp_path / "runs")
    plan.cells[:] = cells
    return plan


def test_a_grid_of_several_ranks_and_both_bases_has_their_tables_too(folder, swept):
    shown = aggregate.aggregate([])
    tables = {
        f"table_{name}.{ending}"
        for name in ("main", "ranks", "differences", "ablation")
        for ending in ("md", "tex", "csv")
    }
    assert set(contents(folder)) == FILES | tables
    assert shown == "\n".join(
        (folder / f"table_{name}.md").read_text() for name in ("main", "ranks", "differences", "ablation")
    )
    spaceless = shown.replace(" ", "")
    assert "|RTE(accuracy)|EDoRA|_60.5±0.7_|62.5±0.7|" in spaceless
    assert "|RTE(accuracy)|EDoRA,randombases|**64.5±0.7**|--(1/2)|" in spaceless
    assert "|Difference|||-4.0±0.0|" in spaceless
    assert spaceless.count("|--(1/2)|") == 5  # in the main table, by rank, twice as a difference, in the pair
    for name in ("ranks", "differences", "ablation"):
        assert f"\\label{{tab:demo_{name}}}" in (folder / f"table_{name}.tex").read_text()


def test_which_tables_there_are_does_not_depend_on_the_runs(folder, swept, tmp_path):
    shutil.rmtree(tmp_path / "runs")
    write_run(make_record(swept.cells[0]), tmp_path / "runs")
    aggregate.aggregate([])
    with_one = set(contents(folder))
    for cell in swept.cells:
        write_run(make_record(cell), tmp_path / "runs")
    aggregate.aggregate([])
    assert set(contents(folder)) == with_one


def test_no_records_are_one_line_and_no_results(folder, plan, tmp_path):
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(
        InputError,
        match=r"runs: no record of demo's 8 runs, and no evidence in .*edora-glue sweep experiment=",
    ):
        aggregate.aggregate([])
    assert not folder.exists()


@pytest.mark.parametrize(
    "override", ["protocol.epoch=last", "+protocol.epoch=last", "protocol=held_out,paper_last"]
)
def test_a_protocol_that_is_not_one_by_name_is_refused(folder, override):
    aggregate.aggregate([])
    first = contents(folder)
    with pytest.raises(
        InputError, match=r"allowed is protocol=<one of best_epoch, held_out, paper_last>, each in"
    ):
        aggregate.aggregate([override])
    assert contents(folder) == first


def test_rebuilding_every_table_and_figure_gives_the_same_bytes(folder, swept, tmp_path, drawn):
    aggregate.aggregate([])
    first = contents(folder)
    shutil.rmtree(tmp_path / "runs")
    aggregate.aggregate([])
    assert contents(folder) == first


def test_an_experiments_notes_stand_under_all_of_its_tables(plan):
    noted = Experiment(name="demo", notes=["16 dev rows & more occur in train."])
    selection = select(aggregate.collect(plan, Path(plan.config.runs_dir), Path("none")), BEST)
    noted = replace(plan, config=replace(plan.config, experiment=noted))
    rendered = aggregate.render(aggregate.build_tables(selection, noted), "demo")
    for name in NAMES:
        assert "\n- 16 dev rows & more occur in train.\n" in rendered[f"table_{name}.md"]
        assert r" 16 dev rows \& more occur in train." in rendered[f"table_{name}.tex"]
    plain = aggregate.render(aggregate.build_tables(selection, plan), "demo")
    assert not any("16 dev rows" in text for text in plain.values())


def test_the_protocol_chooses_the_numbers(plan):
    best = aggregate.aggregate([])
    plan.config.protocol = LAST
    last = aggregate.aggregate([])
    assert "60.5 ± 0.7" in best
    assert "50.0 ± 0.0" in last
    assert "Protocol last_epoch" in last


def test_a_filter_narrows_what_is_shown_and_loses_nothing(folder):
    aggregate.aggregate([])
    first = contents(folder)
    shown = aggregate.aggregate(["only.task=[rte]"])
    assert "RTE" in shown
    assert "CoLA" not in shown
    assert "Runs: 4 planned" in shown
    assert contents(folder) == first


@pytest.mark.parametrize("name", sorted(FILES))
def test_earlier_results_stay_when_a_file_cannot_be_written(folder, tmp_path, plan, monkeypatch, name):
    aggregate.aggregate([])
    first = contents(folder)
    write_run(make_record(plan.cells[-1], scores=(0.9, 0.8)), tmp_path / "runs")
    write = files.write_atomically

    def fail(path, content):
        if name in path.name:
            raise InputError(f"{path}: cannot be written (No space left on device)")
        write(path, content)

    monkeypatch.setattr(files, "write_atomically", fail)
    with pytest.raises(InputError, match="No space left"):
        aggregate.aggregate([])
    assert contents(folder) == first
    monkeypatch.undo()


def test_a_folder_in_a_files_place_changes_nothing(folder):
    (folder / "table_main.tex").mkdir(parents=True)
    with pytest.raises(InputError, match=r"table_main\.tex: is a folder; allowed is a file"):
        aggregate.aggregate([])
    assert os.listdir(folder) == ["table_main.tex"]


def test_damaged_evidence_stops_before_anything_is_written(folder):
    aggregate.aggregate([])
    path = folder / "runs.csv"
    path.write_text(path.read_text().replace(",0.001,", ",fast,", 1))
    first = contents(folder)
    with pytest.raises(InputError, match=r"runs\.csv: row 1: learning_rate=fast"):
        aggregate.aggregate([])
    assert contents(folder) == first


@pytest.mark.parametrize("change", [{"cells": []}, "experiment"])
def test_no_grid_is_one_line(plan, monkeypatch, change):
    if change == "experiment":
        plan.config.experiment.name = None
    else:
        monkeypatch.setattr(sweep, "plan", lambda overrides: replace(plan, **change))
    with pytest.raises(InputError, match=r"experiment=(demo|null): no grid; allowed is .*demo"):
        aggregate.aggregate([])


def test_the_entry_prints_the_table(folder, monkeypatch, capsys):
    main(["report", "experiment=demo"])
    assert capsys.readouterr().out == (folder / "table_main.md").read_text()


def test_the_entry_turns_bad_input_into_one_line_and_exit_code_2(folder, monkeypatch, capsys):
    aggregate.aggregate([])
    (folder / "epochs.csv").unlink()
    with pytest.raises(SystemExit) as caught:
        main(["report", "experiment=demo"])
    shown = capsys.readouterr()
    assert caught.value.code == 2
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert "epochs.csv: is missing" in shown.err


def test_a_plan_without_committed_runs_is_refused_and_loses_nothing(folder, plan):
    aggregate.aggregate([])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    del plan.cells[:2]
    with pytest.raises(InputError, match="holds 2 runs that are not planned now"):
        aggregate.aggregate([])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
