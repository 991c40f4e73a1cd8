"""A block composed once and filled in is what Hydra composes cell by cell."""

import dataclasses
import itertools

import pytest
from hydra import compose
from omegaconf import OmegaConf

from glue_harness.config.compose import compose_config
from glue_harness.config.validation import fill_in
from glue_harness.errors import InputError
from glue_harness.runs.identity import hash_plan
from glue_harness.sweeps import grid
from glue_harness.sweeps.grid import (
    Template,
    apply_changes,
    as_overrides,
    build_cell,
    compare,
    expand_block,
)
from glue_harness.sweeps.plan import _composer

BASE = ["model=tiny_roberta", "data=miniature"]


@pytest.fixture(autouse=True)
def composer():
    with _composer():
        yield


def test_every_cell_is_what_its_overrides_compose():
    axes = {
        "method": ["edora", "lora"],
        "rank": [4, 8],
        "trainer.learning_rate": [1e-3, 5e-4],
        "trainer.max_steps": [None, 3],
        "seed": [2, 1],
    }
    cells = list(expand_block(BASE, axes))
    assert len(cells) == 32
    for cell in cells:
        composed = fill_in(compose("config", list(cell.overrides)), {})
        assert cell.config == composed
        assert cell.cell_hash == hash_plan(composed)


def test_a_staged_cell_and_its_source_are_what_their_overrides_compose():
    axes = {"task": ["rte", "stsb"], "init_from": ["mnli", None], "rank": [4, 8], "seed": [2, 1]}
    cells = list(expand_block(BASE, axes))
    assert len(cells) == 16
    for cell in cells:
        job = build_cell(fill_in(compose("config", list(cell.overrides)), {}), cell.overrides)
        assert (job.config, job.cell_hash) == (cell.config, cell.cell_hash)
        assert (job.source is None) == (cell.source is None) == (cell.config.init_from is None)
        if cell.source is not None:
            composed = fill_in(compose("config", list(cell.source.overrides)), {})
            assert cell.source.config == job.source.config == composed
            assert cell.source.cell_hash == job.source.cell_hash == hash_plan(composed)
            assert composed.task.name == cell.config.init_from
            assert (composed.init_from, composed.rank, composed.seed) == (
                None,
                cell.config.rank,
                cell.config.seed,
            )


def test_sources_are_composed_once_for_each_choice_of_files_too(monkeypatch):
    composed = count_composed(monkeypatch)
    axes = {
        "task": ["rte", "stsb"],
        "init_from": ["mnli", "qnli", None],
        "rank": [4, 8],
        "seed": [1, 2, 3, 4, 5],
    }
    cells = list(expand_block(BASE, axes))
    assert (len(cells), len(composed)) == (60, 4)  # rte, stsb; mnli, qnli


def test_cells_come_in_the_order_of_the_product():
    axes = {"rank": [8, 4], "task": ["sst2", "rte"], "seed": [2, 1]}
    configs = [cell.config for cell in expand_block(BASE, axes)]
    found = [(config.rank, config.task.name, config.seed) for config in configs]
    assert found == list(itertools.product(*axes.values()))


def count_composed(monkeypatch):
    """Return the list to which every composition adds its overrides."""
    composed = []
    monkeypatch.setattr(
        grid, "compose_config", lambda overrides: composed.append(overrides) or compose_config(overrides)
    )
    return composed


def test_files_are_composed_once_for_each_choice_of_them(monkeypatch):
    composed = count_composed(monkeypatch)
    cells = list(
        expand_block(BASE, {"task": ["rte", "sst2"], "rank": list(range(1, 21)), "seed": list(range(5))})
    )
    assert (len(cells), len(composed)) == (200, 2)


def test_values_that_follow_from_several_axes_are_resolved_together(monkeypatch):
    """The planted interpolation: a label of rank and seed, and a weight decay that follows the seed alone."""

    def compose_entangled(overrides):
        composed = compose_config(overrides)
        OmegaConf.update(composed, "method.label", "r${rank}_s${seed}")
        OmegaConf.update(composed, "trainer.weight_decay", "${seed}")
        return composed

    monkeypatch.setattr(grid, "compose_config", compose_entangled)
    for cell in expand_block(BASE, {"rank": [4, 8], "seed": [1, 2]}):
        config = cell.config
        assert config.method.label == f"r{config.rank}_s{config.seed}"
        assert config.trainer.weight_decay == config.seed
        assert cell.cell_hash == hash_plan(config)


def test_lists_as_values_are_composed():
    modules = [["query"], ["query", "value"]]
    cells = list(expand_block(BASE, {"method.adapter.target_modules": modules}))
    assert [cell.config.method.adapter["target_modules"] for cell in cells] == modules


@pytest.mark.parametrize(
    ("axis", "value", "message"),
    [
        ("rank", 65, "rank=65: allowed is 1 to 64"),
        ("seed", -1, "seed=-1: allowed is 0 to"),
        ("trainer.epochs", "many", "trainer.epochs: "),
    ],
)
def test_a_value_out_of_range_is_found_wherever_it_stands(axis, value, message):
    with pytest.raises(InputError, match=message):
        list(expand_block(BASE, {axis: [1, value]}))


def test_changes_turn_one_configuration_into_the_other_and_share_the_rest():
    template = Template(BASE, {"rank": 4})
    base, _ = template.fill({"rank": 4})
    other = dataclasses.replace(
        base, seed=9, method=dataclasses.replace(base.method, label="x", adapter=None)
    )
    changes = compare(base, other)
    assert changes == {("seed",): 9, ("method", "label"): "x", ("method", "adapter"): None}
    changed = apply_changes(base, changes)
    assert changed == other
    assert changed.model is base.model
    assert base.seed != 9


def test_true_is_not_one():
    assert compare({"a": 1}, {"a": True}) == {("a",): True}


def test_overrides_are_written_as_on_the_command_line():
    assert as_overrides({"rank": 4, "trainer.max_steps": None}) == ["rank=4", "trainer.max_steps=null"]
