"""Imports point one way: a lower room never imports a higher one."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

# From the ground up. A room may import rooms on earlier lines only.
ROOMS = [
    "errors garbage metric_facts",
    "config progress miniature run_lock processes files strict",
    "data_identity",
    "resolution",
    "compose",
    "tracking",
    "seeding hardware",
    "tsv identity tokens",
    "records",
    "sources data inventory acceleration",
    "grid metrics endings",
    "logits backbone",
    "method callbacks staging checkpoints",
    "preparation arguments",
    "trainer failures",
    "run",
    "supervise",
    "sweep",
    "launchers estimate",
    "overview",
    "console",
    "entry",
    "train plan status wandb_sync",
]
REPORTING = [
    "stats counts claims published leaderboard percent",
    "evidence example_statistics",
    "evidence_check",
    "evidence_files",
    "collection scoring",
    "selection",
    "comparison curves",
    "captions verdicts figure_notes",
    "markup plot_styles",
    "panels",
    "tables plots search cost_table hyperparameter_table",
    "rank_plot cost_plot",
    "rank_table differences_table published_table claims_page run_sections",
    "ablation_table",
    "claims_html",
    "page",
    "aggregate restore fallback finals documents significance",
    "rounds",
    "tune",
]
ABOVE_BOTH = "params submission"
"""One lays out what the methods' models count and reads no run; one has finished runs predict the test sets."""
TRAINING_ONLY = {"acceleration", "backbone", "method", "callbacks", "staging", "trainer", "run", "supervise"}
TRAINING_ONLY |= {"preparation", "arguments"}
TRAINING_ONLY |= {"train", "checkpoints", "failures"}
HYDRA_ROOMS = {"errors", "config", "resolution", "compose", "grid", "sweep", "entry", "train"}

LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms.split()}
LEVEL |= {room: len(ROOMS) + level for level, rooms in enumerate(REPORTING) for room in rooms.split()}
LEVEL |= {room: len(ROOMS) + len(REPORTING) for room in ABOVE_BOTH.split()}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def rooms_of(imports: set[str]) -> set[str]:
    parts = [name.split(".") for name in imports if name.startswith("glue_harness.")]
    return {part[1] for part in parts if part[1] in LEVEL}


HARNESS = {
    path.stem: imports_of(path) for path in (SRC / "glue_harness").glob("*.py") if path.stem != "__init__"
}
MINIATURE = set().union(*(imports_of(path) for path in (SRC / "glue_harness" / "miniature").glob("*.py")))
EDORA = set().union(*(imports_of(path) for path in (SRC / "edora").glob("*.py")))


def test_every_room_has_a_level():
    assert set(HARNESS) | {"miniature"} == set(LEVEL)


@pytest.mark.parametrize("room", sorted(HARNESS))
def test_a_room_imports_only_lower_rooms(room):
    higher = {other for other in rooms_of(HARNESS[room]) - {room} if LEVEL[other] >= LEVEL[room]}
    assert not higher


def test_training_and_reporting_meet_only_on_disk():
    reporting = {room for rooms in REPORTING for room in rooms.split()}
    for room in reporting:
        assert not rooms_of(HARNESS[room]) & TRAINING_ONLY, room
    for room in set(HARNESS) - reporting - set(ABOVE_BOTH.split()):
        assert not rooms_of(HARNESS[room]) & reporting, room


def test_only_who_draws_imports_matplotlib():
    drawing = {
        room
        for room, imports in HARNESS.items()
        if any(name.split(".")[0] == "matplotlib" for name in imports)
    }
    assert drawing == {"plot_styles", "panels", "plots", "rank_plot", "cost_plot"}
    assert not any("pyplot" in name for room in drawing for name in HARNESS[room])


def test_edora_knows_nothing_of_the_harness():
    assert not [
        name for name in EDORA if name.split(".")[0] in ("glue_harness", "hydra", "omegaconf", "datasets")
    ]


def test_miniature_stands_alone():
    assert not [room for room in rooms_of(MINIATURE) if room != "miniature"]


def test_only_the_entrances_see_hydra():
    seeing = {
        room
        for room, imports in HARNESS.items()
        if any(name.split(".")[0] in ("hydra", "omegaconf") for name in imports)
    }
    assert seeing <= HYDRA_ROOMS
