from pathlib import Path

import pytest

from glue_harness.config.schema import Split, run_splits
from glue_harness.data.fingerprint import fingerprint
from glue_harness.data.sources import load_split
from glue_harness.errors import InputError
from glue_harness.sweeps.plan import plan
from glue_harness.training.run import run_once

SHARED_GLUE = Path(__file__).parents[3] / "shared" / "glue"


def write_tsv(root: Path, config, split: str) -> Path:
    """Write a split as the GLUE download has it: the task's own titles, or none for CoLA."""
    task = config.task
    rows = load_split(config.data, task, split)
    names = [*task.text_columns, "label"]
    path = root / task.tsv.folder / f"{split.replace('validation', 'dev')}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [task.labels[label] if task.labels else repr(label) for label in rows["label"]]
    columns = [*(rows[name] for name in task.text_columns), shown]
    if task.tsv.positions:
        lines = [f"gj04\t{rows['label'][i]}\t\t{rows['sentence'][i]}" for i in range(len(rows))]
    else:
        titles = ["index", *(task.tsv.columns.get(name, name) for name in names)]
        lines = [
            "\t".join(titles),
            *("\t".join([str(i), *fields]) for i, fields in enumerate(zip(*columns, strict=True))),
        ]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.skipif(not SHARED_GLUE.is_dir(), reason=f"needs the real GLUE files in {SHARED_GLUE}")
@pytest.mark.parametrize("task", ["cola", "mrpc", "stsb", "rte", "wnli"])
def test_tsv_folders_hold_the_published_rows_of_the_parquet_files(build_config, tmp_path, task):
    config = build_config(f"task={task}", "data=local", f"data.root={SHARED_GLUE}")
    for split in run_splits(config.task):
        write_tsv(tmp_path, config, split)
    tsv = build_config(f"task={task}", "data=local", f"data.root={tmp_path}")
    for split in run_splits(config.task):
        rows = load_split(tsv.data, tsv.task, split)
        assert fingerprint(rows, tsv.task) == config.task.splits[split].sha256
        assert rows["label"] == load_split(config.data, config.task, split)["label"]


@pytest.mark.skipif(not SHARED_GLUE.is_dir(), reason=f"needs the real GLUE files in {SHARED_GLUE}")
def test_the_same_score_from_parquet_and_from_tsv(build_config, tmp_path):
    common = ["model=tiny_roberta", "trainer=smoke", "task=wnli", "method=full", "data=local"]
    config = build_config(*common, f"data.root={SHARED_GLUE}")
    for split in run_splits(config.task):
        write_tsv(tmp_path / "glue", config, split)
    records = []
    for name, root in (("parquet", SHARED_GLUE), ("tsv", tmp_path / "glue")):
        (cell,) = plan([*common, f"data.root={root}", f"runs_dir={tmp_path / name}"]).cells
        assert run_once(cell.config, cell.identity, show_progress=False).state == "complete"
        records.append(cell.record())
    assert records[0].identity == records[1].identity
    assert records[0].epochs == records[1].epochs


@pytest.fixture
def rte(build_config, tmp_path):
    """Return a configuration without published rows, and the folder of its TSV files."""
    config = build_config("task=rte", "data=local", f"data.root={tmp_path}")
    config.task.splits = {}
    folder = tmp_path / "RTE"
    folder.mkdir()
    return config, folder


HEADER = "index\tsentence1\tsentence2\tlabel\n"


def test_a_quotation_mark_left_open_swallows_nothing(rte):
    config, folder = rte
    (folder / "train.tsv").write_text(HEADER + '0\t"He said\tHe spoke\tentailment\n1\ta\tb\tnot_entailment\n')
    rows = load_split(config.data, config.task, "train")
    assert rows["sentence1"] == ['"He said', "a"]
    assert rows["label"] == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "index\tsentence1\tlabel\n0\ta\tentailment\n",
            "column sentence2 is missing; found index, sentence1, label",
        ),
        (HEADER + "0\ta\tb\n", "line 2: 3 fields; allowed is 4"),
        (HEADER + "0\ta\tb\tmaybe\n", "line 2: label maybe; allowed is entailment, not_entailment"),
        (HEADER + "0\ta\tb\t7\n", "row 0: label 7; allowed is 0 to 1"),
        (HEADER, "0 rows; allowed is 1 or more"),
        ("", "column sentence1 is missing; found no header"),
    ],
)
def test_a_spoilt_file_is_one_line(rte, content, message):
    config, folder = rte
    (folder / "train.tsv").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_split(config.data, config.task, "train")
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_title(rte):
    config, folder = rte
    text = HEADER.removeprefix("index\t") + "a\tb\tentailment\n"
    (folder / "train.tsv").write_text(text, encoding="utf-8-sig")
    assert load_split(config.data, config.task, "train")["sentence1"] == ["a"]


def test_lines_cut_short_are_left_out_where_the_rest_is_what_was_published(rte):
    config, folder = rte
    (folder / "train.tsv").write_text(HEADER + "0\ta\n1\tc\td\tentailment\n2\te\n")
    config.task.splits = {"train": Split(rows=1)}
    assert load_split(config.data, config.task, "train")["sentence1"] == ["c"]
    config.task.splits = {"train": Split(rows=2)}
    with pytest.raises(InputError, match="line 2: 2 fields; allowed is 4"):
        load_split(config.data, config.task, "train")


def test_the_first_qnli_is_told_from_the_second(build_config, tmp_path):
    config = build_config("task=qnli", "data=local", f"data.root={tmp_path}")
    (tmp_path / "QNLI").mkdir()
    (tmp_path / "QNLI" / "dev.tsv").write_text("index\tquestion\tsentence\tlabel\n0\ta\tb\tentailment\n")
    with pytest.raises(InputError, match="1 rows; allowed is the published 5463 .QNLI was published twice"):
        load_split(config.data, config.task, "validation")


def test_sentences_of_any_length_and_script_are_read(rte):
    config, folder = rte
    long, chinese = " ".join(["word"] * 10_000), "我喜欢这本书。"
    (folder / "train.tsv").write_text(
        f"{HEADER}0\t{long}\t\tentailment\n1\t{chinese}\tनमस्ते\tnot_entailment\n"
    )
    rows = load_split(config.data, config.task, "train")
    assert rows["sentence1"] == [long, chinese]
    assert rows["sentence2"] == ["", "नमस्ते"]
