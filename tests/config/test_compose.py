"""What is composed once and kept is what Hydra composes each time."""

import os
import shutil

import hydra
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from glue_harness.config import compose
from glue_harness.config.compose import compose_config
from glue_harness.errors import CONF


@pytest.fixture(autouse=True)
def conf(tmp_path, monkeypatch):
    """A copy of conf/ of its own, which Hydra is set to, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(CONF, tmp_path / "conf")
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        yield tmp_path / "conf"


@pytest.fixture
def composed(monkeypatch):
    """Return the list to which every composition of Hydra adds its overrides."""
    listed, whole = [], hydra.compose
    monkeypatch.setattr(
        hydra, "compose", lambda name, overrides: listed.append(overrides) or whole(name, overrides)
    )
    return listed


def show(config):
    return OmegaConf.to_container(config, resolve=False)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["rank=8", "seed=3"],
        ["trainer.epochs=3", "trainer=paper"],
        ["trainer=paper", "trainer.max_steps=7", "trainer.max_steps=null"],
        ["model=roberta_base", "task=stsb", "method=lora_qv", "preset=lora_paper", "rank=${seed}"],
        ["method.adapter.target_modules=[query]", "task.splits.train={rows: 100, sha256: null}"],
        ["data=local", "data.root='a folder, with a comma'", "runs_dir='/tmp/a=b'"],
        ["experiment=glue_all", "only.method=[edora,lora]", "experiment.title=null"],
        ["experiment=tune", "experiment.grid=[{method: [full], trainer.learning_rate: [1e-5, 1e-4]}]"],
        ["hydra.launcher.n_jobs=3", "launcher=joblib"],
        ["sourced_grid@experiment=none", "experiment=rank_sweep"],
        ["+method.adapter.revision=0.5", "~method.adapter.init_std", "rank=2"],
        ["seed=1", "++seed=2"],
        ["method.adapter.init_std=2", "+method.adapter={init_std: 3}"],
        ["trainer.epochs=5", "trainer={epochs: 3}"],
        ["experiment.grid=[{rank: [2], seed: [1]}]", "experiment.grid.0.rank=[1]"],
    ],
)
def test_it_is_what_hydra_composes(overrides):
    whole = hydra.compose("config", overrides)
    for _ in range(2):  # from the files, and from what is kept
        assert show(compose_config(overrides)) == show(whole)


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.lerning_rate=1"],
        ["seed=one"],
        ["lr=1"],
        ["rank=1,2"],
        ["trainer.epochs.more=1"],
        ["method.adapter.init_std=glob(*)"],
        ["data.root=x", "+data.root=y"],
        ["task=colla"],
    ],
)
def test_what_is_wrong_is_said_in_hydra_s_words(overrides):
    with pytest.raises(Exception) as whole:
        hydra.compose("config", overrides)
    with pytest.raises(type(whole.value)) as caught:
        compose_config(overrides)
    assert str(caught.value) == str(whole.value)


def test_files_are_composed_once_for_all_values(composed):
    for rank in range(1, 6):
        assert compose_config(["method=dora", f"rank={rank}", "runs_dir=elsewhere"]).rank == rank
    assert composed == [["method=dora"]]


def test_whoever_has_one_may_change_it():
    OmegaConf.update(compose_config([]), "rank", 99)
    assert compose_config([]).rank != 99


def test_a_file_that_is_changed_added_or_gone_is_seen(conf, composed):
    overrides = ["model=minilm", "task=rte", "method=dora"]
    path = conf / "tuned" / "minilm_dora_rte.yaml"
    before = compose_config(overrides).tuned.learning_rate
    path.write_text("learning_rate: 0.125\nhead_learning_rate: 0.25\n")
    assert compose_config(overrides).tuned.learning_rate == 0.125
    path.write_text("learning_rate: 0.0625\nhead_learning_rate: 0.25\n")
    assert compose_config(overrides).tuned.learning_rate == 0.0625
    path.unlink()
    assert compose_config(overrides).tuned.learning_rate == before
    assert compose_config(overrides).rank == compose_config([*overrides, "seed=2"]).rank
    assert len(composed) == 3  # once for each content of the files


def test_a_link_to_nowhere_is_no_file(conf):
    """As Emacs leaves beside a file that is being edited."""
    (conf / ".#config.yaml").symlink_to("user@host.1")
    assert compose_config(["rank=3"]).rank == 3


def test_two_folders_do_not_share_what_is_kept(conf, tmp_path):
    shutil.copytree(conf, tmp_path / "other")
    (tmp_path / "other" / "data" / "hub.yaml").write_text("name: local\nroot: here\nholdout: null\n")
    own = compose_config([]).data
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(tmp_path / "other"), version_base="1.3"):
        assert compose_config([]).data != own


def test_what_is_neither_one_value_nor_one_choice_is_left_to_hydra():
    parse = compose.parse_override
    for override in ("seed=1", "trainer.epochs=2", "only.method=[edora]", "data.root=null"):
        assert compose.only_sets(parse(override))
        assert not compose.only_chooses(parse(override))
    for override in ("trainer=fast", "preset@_global_=x", "experiment=null"):
        assert compose.only_chooses(parse(override))
        assert not compose.only_sets(parse(override))
    others = (
        "+trainer.x=1",
        "~rank",
        "hydra.launcher.n_jobs=1",
        "seed=1,2",
        "trainer=fast,paper",
        "+trainer=fast",
    )
    for override in (*others, "trainer={epochs: 3}", "hydra/launcher=basic"):
        assert not compose.only_sets(parse(override)), override
        assert not compose.only_chooses(parse(override)), override


def test_another_process_composes_nothing_anew(composed, tmp_path, monkeypatch):
    """Nor does another folder with the same files; a damaged or unwritable cache costs time alone."""
    first = show(compose_config(["method=dora"]))
    (cached,) = (tmp_path / "cache").rglob("*.pickle")
    compose._keep_while.cache_clear()
    assert show(compose_config(["method=dora"])) == first
    assert len(composed) == 1
    cached.write_bytes(cached.read_bytes()[:100])
    compose._keep_while.cache_clear()
    assert show(compose_config(["method=dora"])) == first
    assert len(composed) == 2
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    compose._keep_while.cache_clear()
    assert show(compose_config(["method=dora"])) == first
    assert len(composed) == 3


def test_what_is_cached_of_files_that_have_changed_is_removed_in_a_week(conf, tmp_path):
    compose_config(["method=dora"])
    (cached,) = (tmp_path / "cache").rglob("*.pickle")
    os.utime(cached.parent, (0, 0))
    (conf / "data" / "hub.yaml").write_text("name: local\nroot: here\nholdout: null\n")
    compose_config(["method=dora"])
    assert not cached.exists()
    assert len(list((tmp_path / "cache").rglob("*.pickle"))) == 1
