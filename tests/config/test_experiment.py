"""Experiments: the grid behind each published table."""

import itertools
import math
from dataclasses import asdict

import pytest
import yaml
from omegaconf import OmegaConf

from glue_harness.errors import CONF, InputError
from glue_harness.sweeps.plan import plan
from tests.support.published_presets import SIX, normal, reference


def read_grid(name):
    return OmegaConf.to_container(OmegaConf.load(CONF / "experiment" / f"{name}.yaml").experiment.grid)


def test_paper_grid_is_the_authors_grid():
    """Counted from the grid: to compose all its cells takes minutes."""
    (block,) = read_grid("paper_grid")
    entry = reference()["hyperparameters"]["edora_code"]
    for axis, name in (
        ("rank", "ranks"),
        ("method.adapter.init_std", "init_sigma"),
        ("trainer.learning_rate", "lr"),
        ("trainer.head_learning_rate", "cls_lr"),
        ("seed", "seeds"),
    ):
        assert [normal(value) for value in block[axis]] == [normal(value) for value in entry[name]], axis
    assert (block["method"], block["task"]) == (["edora"], SIX)
    runs = math.prod(len(values) for values in block.values())
    assert runs == int(entry["runs_per_task"]) * len(SIX) == 10_500


def test_paper_grid_composes_under_the_authors_protocol():
    """One of its 2,100 groups of seeds."""
    planned = plan(
        [
            *("experiment=paper_grid", "only.task=[rte]", "only.rank=[25]"),
            *(
                "trainer.learning_rate=5e-3",
                "trainer.head_learning_rate=1e-4",
                "method.adapter.init_std=5e-6",
            ),
        ]
    )
    assert [(cell.identity.label, cell.identity.seed) for cell in planned.cells] == [
        ("edora_r25", seed) for seed in range(1, 6)
    ]
    config = planned.cells[0].config
    assert (config.trainer.name, config.protocol.name) == ("paper", "paper_last")
    assert (config.trainer.learning_rate, config.trainer.head_learning_rate) == (5e-3, 1e-4)
    assert config.method.adapter["init_std"] == 5e-6


def test_rank_sweep_is_seven_ranks_six_tasks_five_seeds():
    cells = plan(["experiment=rank_sweep"]).cells
    for method in ("edora", "lora_xs"):
        found = {(cell.identity.rank, cell.identity.task) for cell in cells if cell.identity.method == method}
        assert found == set(itertools.product([4, 8, 12, 16, 20, 25, 32], SIX))
    assert {cell.identity.seed for cell in cells} == {1, 2, 3, 4, 5}


def test_full_nine_holds_every_task():
    cells = plan(["experiment=full_nine"]).cells
    assert {cell.identity.task for cell in cells} == {*SIX, "qqp", "mnli", "wnli"}
    assert len(cells) == 4 * 9 * 5


@pytest.mark.parametrize("model", ["roberta_base", "roberta_large", "deberta_v3_base"])
def test_an_ablation_s_runs_differ_by_their_bases_alone(model):
    runs = {}
    for cell in plan(["experiment=init_ablation", f"model={model}"]).cells:
        rest = asdict(cell.config)
        for name in ("name", "label"):
            del rest["method"][name]
        bases = rest["method"]["adapter"].pop("bases")
        runs.setdefault(bases, {})[cell.identity.task, cell.identity.seed] = rest
    assert set(runs) == {"svd", "random"}
    assert runs["svd"] == runs["random"]


def test_glue_all_tuned_is_the_grid_of_glue_all_at_the_rates_of_a_search():
    methods = "only.method=[full,lora,dora,edora,lora_xs,head_only]"
    cells = plan(["experiment=glue_all_tuned", "model=minilm", methods]).cells
    assert len(cells) == len(plan(["experiment=glue_all", methods]).cells) == 300
    for cell in cells:
        config = cell.config
        own, other = (
            CONF / f"tuned/{name}.yaml"
            for name in (
                f"minilm_{config.method.name}_{config.task.name}",
                f"any/minilm_{config.method.name}",
            )
        )
        tuned = yaml.safe_load((own if own.is_file() else other).read_text())
        rates = config.trainer.learning_rate, config.trainer.head_learning_rate
        assert rates == (tuned["learning_rate"], tuned["head_learning_rate"])


def test_an_experiment_at_searched_rates_refuses_methods_without_a_search():
    message = (
        r"experiment=glue_all_tuned: model=minilm, method=lora_qv: no rates in conf/tuned; "
        r"allowed is what `edora-glue tune model=minilm 'only.method=\[lora_qv\]'` has searched"
    )
    with pytest.raises(InputError, match=message):
        plan(["experiment=glue_all_tuned", "model=minilm", "only.method=[lora_qv,edora]"])


@pytest.mark.parametrize(
    ("override", "given"),
    [
        ("trainer=paper", r"\(0\.001, 0\.001, 16\)"),
        ("trainer.learning_rate=0.5", r"\(0\.5, 0\.003, 16\)"),
        ("trainer.alpha=4", r"\(0\.01, 0\.003, 4\)"),
    ],
)
def test_an_experiment_at_searched_rates_refuses_others(override, given):
    message = (
        f"minilm mrpc edora_r16 seed 1: .*={given}: allowed is \\(0.01, 0.003, 16\\), as conf/tuned has them"
    )
    part = ["only.method=[edora]", "only.task=[mrpc]", "only.rank=[16]"]
    with pytest.raises(InputError, match=message):
        plan(["experiment=glue_all_tuned", "model=minilm", *part, override])


def test_init_ablation_is_the_same_runs_as_glue_all_and_those_with_random_bases():
    planned = plan(["experiment=init_ablation"])
    bases = [cell.config.method.adapter["bases"] for cell in planned.cells]
    assert [bases.count(choice) for choice in ("svd", "random")] == [30, 30]
    shared = {
        cell.identity.config_hash for cell in plan(["experiment=glue_all", "only.method=[edora]"]).cells
    }
    assert all(
        (cell.identity.config_hash in shared) == (base == "svd")
        for cell, base in zip(planned.cells, bases, strict=True)
    )
