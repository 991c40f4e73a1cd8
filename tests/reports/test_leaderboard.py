"""What the leaderboard takes: written so, and found out where it is not."""

import zipfile
from dataclasses import replace

import pytest

from glue_harness.config.schema import Config
from glue_harness.errors import InputError
from glue_harness.reports import leaderboard
from glue_harness.reports.leaderboard import SHEETS, check_submission, write_archive, write_sheet
from glue_harness.sweeps.plan import plan

SMALL = [replace(sheet, rows=4) for sheet in SHEETS]
GOOD = {sheet.name: write_sheet(sheet, [0, 1, 0, 1]) for sheet in SMALL}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(leaderboard, "SHEETS", SMALL)


def sheet(name):
    return next(sheet for sheet in SHEETS if sheet.name == name)


def test_labels_and_scores_are_written_as_the_site_reads_them():
    assert (
        GOOD["RTE"]
        == "index\tprediction\n0\tentailment\n1\tnot_entailment\n2\tentailment\n3\tnot_entailment\n"
    )
    assert GOOD["CoLA"] == "index\tprediction\n0\t0\n1\t1\n2\t0\n3\t1\n"
    assert write_sheet(sheet("MNLI-mm"), [2, 1]).endswith("0\tcontradiction\n1\tneutral\n")
    assert (
        write_sheet(sheet("STS-B"), [-0.3, 2.34567, 7]) == "index\tprediction\n0\t0.000\n1\t2.346\n2\t5.000\n"
    )


@pytest.mark.parametrize("task", ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"])
def test_values_are_the_task_s_labels_and_rows_its_published_ones(task):
    config: Config = plan([f"task={task}", "model=tiny_roberta"]).cells[0].config
    sheets = [sheet for sheet in SHEETS if sheet.task == task]
    assert sheets
    for found in sheets:
        assert config.task.splits[found.split].rows == found.rows
        names = config.task.labels
        if found.values is None:
            assert names == []
        elif found.values == ("0", "1"):
            assert len(names) == 2
        else:
            assert list(found.values) == names


@pytest.mark.parametrize("packed", [True, False])
def test_what_was_written_passes(tmp_path, packed):
    check_submission(lay_down(tmp_path, GOOD, packed))


def lay_down(tmp_path, texts, packed):
    if packed:
        write_archive(texts, tmp_path / "all.zip")
        return tmp_path / "all.zip"
    for name, text in texts.items():
        (tmp_path / f"{name}.tsv").write_text(text)
    return tmp_path


def test_the_zip_is_the_same_bytes_twice(tmp_path):
    for name in ("a.zip", "b.zip"):
        write_archive(GOOD, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert set(zipfile.ZipFile(tmp_path / "a.zip").namelist()) == {f"{name}.tsv" for name in GOOD}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("AX", lambda text: None, "AX.tsv is missing; allowed is AX.tsv, CoLA.tsv, "),
        (
            "RTE",
            lambda text: text.replace("index\tprediction", "id\tlabel"),
            "RTE.tsv: line 1=id\tlabel: allowed is",
        ),
        (
            "RTE",
            lambda text: text.replace("3\tnot_entailment\n", ""),
            "RTE.tsv: rows=3: allowed is the published 4",
        ),
        ("RTE", lambda text: text.replace("\n2\t", "\n7\t"), "RTE.tsv: line 4: index=7: allowed is 2"),
        (
            "RTE",
            lambda text: text.replace("\n2\tentailment", "\n2\t0"),
            "RTE.tsv: line 4: prediction=0: allowed is ent",
        ),
        (
            "STS-B",
            lambda text: text.replace("\t1.000", "\t5.001", 1),
            "STS-B.tsv: line 3: prediction=5.001: allowed is 0",
        ),
        (
            "STS-B",
            lambda text: text.replace("\t1.000", "\tnan", 1),
            "STS-B.tsv: line 3: prediction=nan: allowed is 0.0",
        ),
        (
            "STS-B",
            lambda text: text.replace("\t1.000", "\ttwo", 1),
            "STS-B.tsv: line 3: prediction=two: allowed is 0.0",
        ),
        (
            "STS-B",
            lambda text: text.replace("\t1.000", "\t1_0", 1),
            "STS-B.tsv: line 3: prediction=1_0: allowed is 0.0",
        ),
    ],
)
def test_what_the_site_would_refuse_is_found(tmp_path, packed, name, spoil, message):
    spoilt = GOOD | {name: spoil(GOOD[name])}
    texts = {key: text for key, text in spoilt.items() if text is not None}
    with pytest.raises(InputError) as caught:
        check_submission(lay_down(tmp_path, texts, packed))
    assert message in str(caught.value)


def test_a_foreign_file_and_a_damaged_zip_are_found(tmp_path):
    with pytest.raises(InputError, match=r"notes\.tsv is unknown"):
        check_submission(lay_down(tmp_path, GOOD | {"notes": "x"}, True))
    write_archive(GOOD, tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("RTE.tsv", GOOD["RTE"])
    with pytest.raises(InputError, match=r"RTE\.tsv is there twice; allowed is one file a name"):
        check_submission(tmp_path / "all.zip")
    (tmp_path / "all.zip").write_bytes((tmp_path / "all.zip").read_bytes()[:100])
    with pytest.raises(InputError, match="not readable"):
        check_submission(tmp_path / "all.zip")
