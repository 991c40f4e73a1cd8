"""What a page lists behind a number: all runs, and which of several settings' count."""

from dataclasses import replace

from glue_harness.analysis.scoring import SCORE_COLUMNS
from glue_harness.analysis.summary import assemble
from glue_harness.evidence import schema as evidence
from glue_harness.reports.page.run_sections import list_pairs, list_runs
from tests.support.scored_runs import PROTOCOL, make_runs, make_selection

SLOW, FAST = "method.init_std=1 trainer.learning_rate=0.0001", "trainer.learning_rate=0.001"
SHOWN = ("init_std=1, learning_rate=0.0001", "learning_rate=0.001")


def select_searched(slow, fast, protocol=PROTOCOL):
    """Return the selection of one cell with two settings: each one's runs, as their scores on every fold."""
    rows = [
        row | {"selecting": folds, "reported": folds, "selected_epochs": (1,) * len(folds)}
        for settings, scores in ((SLOW, slow), (FAST, fast))
        for folds, row in zip(
            scores,
            make_runs("rte", "edora", [folds[0] for folds in scores], cell=settings, searched=settings),
            strict=True,
        )
    ]
    columns = evidence.RUN_COLUMNS | SCORE_COLUMNS | {"searched": evidence.TEXT}
    return assemble(evidence.build_frame(rows, columns), protocol)


def show(selection):
    (section,) = list_runs(selection)
    (block,) = section.blocks
    return block, [row[:3] for row in block.rows]


def test_of_several_settings_the_chosen_one_s_runs_are_marked_and_first():
    block, rows = show(select_searched([(0.6,), (0.7,)], [(0.8,), (0.9,)]))
    assert block.head[:3] == ("setting", "chosen", "seed")
    assert rows == [
        *([SHOWN[1], "chosen", "1"], [SHOWN[1], "chosen", "2"]),
        *([SHOWN[0], "", "1"], [SHOWN[0], "", "2"]),
    ]
    assert block.chosen == 2
    assert block.about == f"4 runs of 2 settings, chosen: {SHOWN[1]}"


def test_while_a_run_is_missing_none_is_chosen():
    block, rows = show(select_searched([(0.6,), (0.7,)], [(0.8,), (None,)]))
    assert [row[1] for row in rows] == [""] * 4
    assert block.chosen == 0
    assert block.about == "4 runs of 2 settings, chosen: none yet"


def test_each_half_s_choice_is_marked():
    halves = replace(PROTOCOL, dev="halves")
    block, rows = show(select_searched([(0.9, 0.1)], [(0.1, 0.9)], halves))
    assert rows == [[SHOWN[0], "first half", "1"], [SHOWN[1], "second half", "1"]]
    assert block.about.endswith(f"chosen: {SHOWN[0]} | {SHOWN[1]}")
    assert block.chosen == 2


def test_without_a_search_there_is_no_column_of_settings():
    block, _ = show(make_selection(make_runs("rte", "edora", [0.5, 0.6])))
    assert block.head[0] == "seed"
    assert (block.about, block.chosen) == ("2 runs", 0)


def test_pairs_are_of_seeds_that_both_methods_have():
    rows = [*make_runs("rte", "edora", [0.7, 0.8, None]), *make_runs("rte", "lora", [0.71, 0.75, 0.7, 0.9])]
    section, full = list_pairs(make_selection([*rows, *make_runs("rte", "full", [0.9], rank=None)]))
    assert full.name == "EDoRA beside Full fine-tuning: tiny, r=16"
    assert (section.anchor, section.name) == ("pairs-tiny-r=16-LoRA-average", "EDoRA beside LoRA: tiny, r=16")
    (block,) = section.blocks
    assert block.head == ("seed", "EDoRA", "LoRA", "difference")
    assert block.rows == [
        ["1", "70.00", "71.00", "-1.00"],
        ["2", "80.00", "75.00", "+5.00"],
        ["3", "--", "70.00", "--"],
    ]
    assert block.links == (("EDoRA (r=16)", "tiny-rte-edora_r16"), ("LoRA (r=16)", "tiny-rte-lora_r16"))
