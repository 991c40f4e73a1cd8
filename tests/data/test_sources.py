import shutil
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from glue_harness.config.schema import Data, Split, Task, Tsv, run_splits
from glue_harness.data import sources
from glue_harness.data.fingerprint import content_identity, fingerprint
from glue_harness.data.sources import check_hub_reachable, divide, join_dev, load_split
from glue_harness.errors import InputError

SHARED_GLUE = Path(__file__).parents[3] / "shared" / "glue"
NAMES = ["no", "yes"]


def write_split(root: Path, rows: int = 4, names: list[str] = NAMES, column: str = "sentence") -> Path:
    path = root / "toy" / "train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    features = Features({column: Value("string"), "label": ClassLabel(names=names)})
    texts, labels = [f"row {i}" for i in range(rows)], [i % len(names) for i in range(rows)]
    table = Dataset.from_dict({column: texts, "label": labels}, features=features)
    table.to_parquet(path)
    return path


def toy_task(rows: int = 4, sha256: str | None = None) -> Task:
    return Task(
        name="toy",
        text_columns=["sentence"],
        labels=NAMES,
        splits={"train": Split(rows=rows, sha256=sha256)},
        tsv=Tsv(folder="Toy"),
    )


def test_local_rows_and_labels(tmp_path):
    write_split(tmp_path)
    dataset = load_split(Data("local", root=str(tmp_path)), toy_task(), "train")
    assert dataset["label"] == [0, 1, 0, 1]


def test_a_label_outside_the_set_is_refused(tmp_path):
    path = tmp_path / "toy" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    Dataset.from_dict({"sentence": ["a", "b"], "label": [0, 2]}).to_parquet(path)
    with pytest.raises(InputError, match="row 1: label 2; allowed is 0 to 1"):
        load_split(Data("local", root=str(tmp_path)), toy_task(rows=2), "train")


def test_mnli_is_scored_together_and_in_its_two_parts(build_config):
    config = build_config("task=mnli")
    splits = {name: load_split(config.data, config.task, name) for name in run_splits(config.task)}
    rows, parts = join_dev(splits, config.task)
    assert set(parts) == {"matched", "mismatched"}
    for part, where in parts.items():
        assert rows["premise"][where] == splits[f"validation_{part}"]["premise"]
    assert sum(where.stop - where.start for where in parts.values()) == len(rows)


def test_other_tasks_have_one_dev_set_and_no_parts(build_config):
    config = build_config("task=rte")
    splits = {name: load_split(config.data, config.task, name) for name in run_splits(config.task)}
    rows, parts = join_dev(splits, config.task)
    assert (len(rows), parts) == (len(splits["validation"]), {})


def test_labels_map_by_name_not_by_position(tmp_path):
    write_split(tmp_path, names=["yes", "no"])
    dataset = load_split(Data("local", root=str(tmp_path)), toy_task(), "train")
    assert dataset["label"] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "task=toy needs .*; neither is there"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "not a readable parquet file"),
        (lambda path: write_split(path.parents[1], rows=5), "5 rows; allowed is the published 4"),
        (
            lambda path: write_split(path.parents[1], names=["no", "maybe"]),
            "label maybe is unknown; allowed is no",
        ),
        (
            lambda path: write_split(path.parents[1], column="text"),
            "column sentence is missing; found text, label",
        ),
        (lambda path: write_split(path.parents[1], rows=0), "0 rows; allowed is 1 or more"),
        (lambda path: shutil.rmtree(path.parents[1]), "there is no such folder"),
    ],
)
def test_planted_faults_are_one_line(tmp_path, spoil, message):
    spoil(write_split(tmp_path / "glue"))
    with pytest.raises(InputError, match=message) as caught:
        load_split(Data("local", root=str(tmp_path / "glue")), toy_task(), "train")
    assert "\n" not in str(caught.value)


def test_changed_content_is_refused(tmp_path):
    path = write_split(tmp_path)
    task = toy_task()
    published = fingerprint(load_split(Data("local", root=str(tmp_path)), task, "train"), task)
    task = toy_task(sha256=published)
    load_split(Data("local", root=str(tmp_path)), task, "train")
    table = pyarrow.parquet.read_table(path)
    changed = table.set_column(0, "sentence", pyarrow.array(["row 0", "row 1", "row 2", "row 3 "]))
    pyarrow.parquet.write_table(changed, path)
    with pytest.raises(InputError, match="allowed is the published"):
        load_split(Data("local", root=str(tmp_path)), task, "train")


def test_fingerprint_sees_every_text_and_label():
    task = toy_task()
    rows = {"sentence": ["a", "b"], "label": [0, 1]}
    prints = {
        fingerprint(Dataset.from_dict(changed), task)
        for changed in (
            rows,
            rows | {"label": [1, 1]},
            rows | {"sentence": ["a", "c"]},
            rows | {"label": [0, -1]},
        )
    }
    assert len(prints) == 4


@pytest.mark.skipif(not SHARED_GLUE.is_dir(), reason=f"needs the real GLUE files in {SHARED_GLUE}")
@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb", "rte", "wnli"])
def test_real_files_are_the_published_ones(build_config, name):
    config = build_config(f"task={name}", "data=local", f"data.root={SHARED_GLUE}")
    for split in ("train", "validation"):
        assert len(load_split(config.data, config.task, split)) == config.task.splits[split].rows


def test_hub_and_local_are_the_same_data_in_a_runs_identity(build_config):
    hub, local = build_config("data=hub"), build_config("data=local", "data.root=/anywhere")
    assert content_identity(hub.data, hub.task) == content_identity(local.data, local.task)


def test_unreachable_hub_is_an_error_within_seconds_that_names_the_other_ways(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="does not answer.*use data=local"):
        check_hub_reachable("task=mrpc", "data=local or data=miniature")


def test_no_silent_change_of_source(build_config, monkeypatch):
    config = build_config("data=hub", "data.revision=0000000000000000000000000000000000000000")
    monkeypatch.setattr(sources, "HUB_DATASET", "nobody/nothing")
    with pytest.raises(
        InputError, match="HF_HUB_OFFLINE is set.*data=local data.root=<folder>, or data=miniature"
    ):
        load_split(config.data, config.task, "train")


def divide_toy(tmp_path, holdout, rows=10):
    write_split(tmp_path, rows=rows)
    task = toy_task(rows=rows)
    names = run_splits(task, holdout)
    splits = {name: load_split(Data("local", root=str(tmp_path)), task, name) for name in names}
    return divide(splits, task, holdout)


def test_a_holdout_divides_train_and_reads_no_dev_split(tmp_path):
    """The folder has no validation split: a run that touched it would fail."""
    train, held, parts = divide_toy(tmp_path, 0.2)
    assert (len(train), len(held), parts) == (8, 2, {})
    assert sorted([*train["sentence"], *held["sentence"]]) == [f"row {i}" for i in range(10)]
    again, _, _ = divide_toy(tmp_path, 0.2)
    assert again["sentence"] == train["sentence"]


def test_a_holdout_is_drawn_from_all_of_train(tmp_path):
    """GLUE's train splits are in no random order: neither the first nor the last rows may stand for all."""
    _, held, _ = divide_toy(tmp_path, 0.2, rows=1000)
    places = [int(text.removeprefix("row ")) for text in held["sentence"]]
    assert len(places) == 200
    assert 400 < sum(places) / 200 < 600
    assert min(places) < 50
    assert max(places) > 950


@pytest.mark.parametrize("holdout", [0.01, 0.99])
def test_a_holdout_that_leaves_a_side_empty_is_refused(tmp_path, holdout):
    with pytest.raises(
        InputError, match=f"data.holdout={holdout}: allowed is a share of 10 rows that leaves rows"
    ):
        divide_toy(tmp_path, holdout)


def test_without_a_holdout_nothing_is_divided(build_config):
    config = build_config("task=mnli")
    splits = {name: load_split(config.data, config.task, name) for name in run_splits(config.task)}
    train, dev, parts = divide(splits, config.task, None)
    assert train is splits["train"]
    assert (len(dev), parts) == (
        sum(len(splits[name]) for name in config.task.dev),
        join_dev(splits, config.task)[1],
    )
    assert "holdout" not in content_identity(config.data, config.task)
