import shutil

import pytest
from omegaconf import OmegaConf

from glue_harness.config.validation import max_rank, max_tokens
from glue_harness.errors import CONF, InputError, choices, explain
from glue_harness.sweeps.plan import plan


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("rank=0", "rank=0: allowed is 1 to 64 for tiny_roberta"),
        ("rank=-1", "rank=-1: allowed is 1 to 64 for tiny_roberta"),
        ("rank=100000", "rank=100000: allowed is 1 to 64 for tiny_roberta"),
        ("seed=-1", "seed=-1: allowed is 0 to 4294967295"),
        ("task=colla", "task=colla: allowed is one of cola, mnli, mrpc, "),
        ("model=bert", "model=bert: allowed is one of deberta_v2_xxlarge, "),
        ("method=lorra", "method=lorra: allowed is one of dora, dora_factored, edora, "),
        ("trainer.lerning_rate=1", "trainer.lerning_rate: there is no such key; known: accelerated, "),
        ("+trainer.lerning_rate=1", "trainer.lerning_rate: there is no such key; known: accelerated, "),
        ("sed=1", "sed: there is no such key; known: "),
        ("+sed=1", "sed: there is no such key; known: "),
        (
            "trainer.epochs=many",
            "trainer.epochs: Value 'many' of type 'str' could not be converted to Integer",
        ),
        ("trainer.epochs=0", "trainer.epochs=0: allowed is 1 or more"),
        ("trainer.learning_rate=0", "trainer.learning_rate=0.0: allowed is above 0"),
        ("trainer.precision=fp16", "trainer.precision=fp16: allowed is one of auto, bf16, fp32"),
        ("trainer.max_length=513", "trainer.max_length=513: allowed is at most 512 for the model"),
        ("protocol.epoch=first", "protocol.epoch=first: allowed is one of best, last"),
        ("protocol.dev=third", "protocol.dev=third: allowed is one of whole, halves"),
        ("protocol.setting=any", "protocol.setting=any: allowed is one of chosen, apart"),
        ("protocol=nix", "protocol=nix: allowed is one of best_epoch, held_out, paper_last"),
        ("task.metrics=[accuracy,recal]", "task.metrics=recal: allowed is one of accuracy, f1, "),
        ("task.metrics=[pearson]", "task.metrics=pearson: is a regression's; "),
        ("task.labels=[]", "task.metrics=accuracy: is a classification's; "),
        ("task.headline=recall", "task.headline=recall: allowed is one of "),
        ("task.name=own", "task.name=own: allowed is one of cola, "),
        ("data.name=web", "data.name=web: allowed is one of hub, local, miniature"),
        ("data.holdout=1", "data.holdout=1.0: allowed is between 0 and 1, or null"),
        (
            "data.root=/glue",
            "data.root=/glue: allowed is null for data=miniature, which reads no folder; data=local does",
        ),
        ("init_from=nix", "init_from=nix: allowed is one of cola, mnli, "),
        ("tracking=nix", "tracking=nix: allowed is one of none, wandb"),
        ("checkpoint_minutes=-1", "checkpoint_minutes=-1.0: allowed is 0 or more, or null"),
        ("launcher.runs_per_gpu=0", "launcher.runs_per_gpu=0: allowed is 1 or more"),
    ],
)
def test_bad_input_is_one_line_naming_field_value_and_what_is_allowed(build_config, override, expected):
    with pytest.raises(InputError) as caught:
        build_config(override)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["task=mnli", "task.metrics=[accuracy,f1]"],
            "task.metrics=f1: is that of a task with two labels; mnli has 3",
        ),
        (["data=hub", "~task.splits.train"], "task.splits.train=missing: allowed is its number of rows"),
        (["~model.architecture.hidden_size"], "model.architecture.hidden_size=missing: allowed is "),
    ],
)
def test_a_task_or_model_file_that_lacks_something_says_what(build_config, overrides, expected):
    with pytest.raises(InputError) as caught:
        build_config(*overrides)
    assert str(caught.value).startswith(expected)


def test_seed_zero_is_kept(build_config):
    assert build_config("seed=0").seed == 0


def test_tuned_values_reach_fast_but_not_paper(build_config):
    tuned = ["tuned.learning_rate=0.25", "tuned.head_learning_rate=0.5"]
    fast = build_config(*tuned, "trainer=fast").trainer
    paper = build_config(*tuned, "trainer=paper").trainer
    assert (fast.learning_rate, fast.head_learning_rate) == (0.25, 0.5)
    assert (paper.learning_rate, paper.head_learning_rate) == (1e-3, 1e-3)


def test_a_file_in_conf_tuned_reaches_the_cell_it_is_named_for(build_config, tmp_path, monkeypatch):
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / "tuned" / "tiny_roberta_edora_wnli.yaml").write_text("learning_rate: 0.25\n")
    monkeypatch.setattr("glue_harness.sweeps.plan.CONF", tmp_path / "conf")
    tuned = build_config("method=edora", "task=wnli", "trainer=fast").trainer
    paper = build_config("method=edora", "task=wnli", "trainer=paper").trainer
    other = build_config("method=edora", "task=rte", "trainer=fast").trainer
    assert (tuned.learning_rate, tuned.head_learning_rate) == (0.25, 1e-3)
    assert (paper.learning_rate, other.learning_rate) == (1e-3, 1e-3)


def test_a_task_without_a_search_of_its_own_reads_the_choice_for_any(build_config, tmp_path, monkeypatch):
    shutil.copytree(CONF, tmp_path / "conf")
    tuned = tmp_path / "conf" / "tuned"
    (tuned / "any").mkdir(exist_ok=True)
    (tuned / "any" / "tiny_roberta_edora.yaml").write_text("learning_rate: 0.5\nhead_learning_rate: 0.125\n")
    (tuned / "tiny_roberta_edora_wnli.yaml").write_text("learning_rate: 0.25\n")
    monkeypatch.setattr("glue_harness.sweeps.plan.CONF", tmp_path / "conf")
    own, other = (
        build_config("method=edora", f"task={task}", "trainer=fast").trainer for task in ("wnli", "rte")
    )
    assert (own.learning_rate, own.head_learning_rate) == (0.25, 0.125)
    assert (other.learning_rate, other.head_learning_rate) == (0.5, 0.125)
    assert build_config("method=lora", "task=rte", "trainer=fast").trainer.learning_rate == 5e-4


def test_paper_reports_the_last_epoch_and_uses_the_authors_svd(build_config):
    paper, fast = (build_config("method=edora", f"trainer={name}") for name in ("paper", "fast"))
    assert (paper.protocol.name, fast.protocol.name) == ("paper_last", "best_epoch")
    assert paper.method.adapter["svd_algorithm"] == "randomized"
    assert build_config("trainer=paper", "protocol=best_epoch").protocol.name == "best_epoch"
    assert "svd_algorithm" not in build_config("method=lora", "trainer=paper").method.adapter


def test_paper_is_the_authors_protocol(build_config):
    """The authors' code at 40cbbcd: scripts/run_glue.py:5-16, main_glue.py:732-761, 889-920."""
    trainer = build_config("trainer=paper").trainer
    assert (trainer.epochs, trainer.batch_size, trainer.max_length, trainer.padding) == (
        50,
        32,
        128,
        "max_length",
    )
    assert (trainer.weight_decay, trainer.decay_magnitude) == (0.01, True)
    assert (trainer.warmup_share, trainer.max_grad_norm, trainer.precision) == (0.06, 1.0, "fp32")
    assert (trainer.length_buckets, trainer.max_steps) == (False, None)


@pytest.mark.parametrize(
    ("model", "repository", "revision"),
    [
        ("roberta_base", "FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b"),
        ("roberta_large", "FacebookAI/roberta-large", "722cf37b1afa9454edce342e7895e588b6ff1d59"),
        ("deberta_v3_base", "microsoft/deberta-v3-base", "8ccc9b6f36199bec6961081d44eb72fb3f7353f3"),
        ("deberta_v3_large", "microsoft/deberta-v3-large", "64a8c8eab3e352a784c658aef62be1662607476f"),
        ("deberta_v2_xxlarge", "microsoft/deberta-v2-xxlarge", None),
    ],
)
def test_models_of_the_hub_are_pinned(build_config, model, repository, revision):
    weights = build_config(f"model={model}").model.weights
    assert (weights.source, weights.id, weights.revision) == ("hub", repository, revision)


def test_hub_data_is_pinned(build_config):
    assert build_config("data=hub").data.revision == "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


def test_limits_follow_from_the_architecture(build_config):
    for name, largest in (("roberta_base", 768), ("roberta_large", 1024), ("deberta_v2_xxlarge", 1536)):
        model = build_config(f"model={name}").model
        assert (max_rank(model), max_tokens(model)) == (largest, 512)


def test_every_choice_of_a_group_composes(build_config):
    for group in ("model", "task", "method", "trainer", "protocol"):
        for name in choices(group):
            assert build_config(f"{group}={name}") is not None


def test_explain_falls_back_to_the_message_in_one_line():
    assert explain(ValueError("two\n lines")) == "two lines"


def test_conf_parses():
    assert all(OmegaConf.load(path) is not None for path in CONF.rglob("*.yaml"))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("tracking.mode=live", "tracking.mode=live: allowed is one of offline, online"),
        ("tracking.timeout_seconds=0", "tracking.timeout_seconds=0.0: allowed is above 0"),
    ],
)
def test_bad_tracking_is_one_line(build_config, override, expected):
    with pytest.raises(InputError) as caught:
        build_config("tracking=wandb", override)
    assert str(caught.value) == expected


def test_alpha_is_searched_like_a_rate_and_published_under_the_authors_trainer(tmp_path):
    """alpha / rank stays over ranks where alpha was searched; what no search chose is 16 at every rank."""
    minilm = ["model=minilm", "method=edora", "task=cola"]
    searched = [*minilm, "tuned.alpha=4", "tuned.rank=16"]
    cases = [
        ([*searched], 4),
        ([*searched, "rank=4"], 1),
        ([*searched, "rank=6"], 1.5),
        ([*searched, "trainer.alpha=8", "rank=4"], 8),
        ([*searched, "trainer=paper"], 16),
        ([*minilm, "rank=4"], 16),
    ]
    for overrides, alpha in cases:
        (cell,) = plan(["data=local", "data.root=/nowhere", *overrides]).cells
        adapter = cell.config.method.adapter
        assert (adapter["alpha"], cell.config.trainer.alpha) == (alpha, alpha), overrides
        assert type(adapter["alpha"]) is type(alpha)
    (plain,), (explicit,) = (
        plan(["data=local", "data.root=/nowhere", *minilm, *more]).cells
        for more in ([], ["trainer.alpha=16"])
    )
    assert plain.cell_hash == explicit.cell_hash


def test_an_alpha_of_a_method_that_has_none_is_refused():
    message = "trainer.alpha=4: allowed is null for method=head_only, which it does not scale"
    with pytest.raises(InputError, match=message):
        plan(["model=tiny_roberta", "data=miniature", "method=head_only", "trainer.alpha=4"])
    with pytest.raises(InputError, match="trainer.alpha=0: allowed is above 0"):
        plan(["model=tiny_roberta", "data=miniature", "method=lora", "trainer.alpha=0"])
