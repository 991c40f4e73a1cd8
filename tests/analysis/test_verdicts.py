"""Verdicts on hand-built scores: what supports, contradicts, and leaves a claim open, and why."""

from __future__ import annotations

import pytest
import yaml

from glue_harness.analysis.claims import Claims, read_claims
from glue_harness.analysis.verdicts import Finding, judge
from glue_harness.errors import InputError
from glue_harness.reports.claims import write_claims
from tests.support.scored_runs import PROTOCOL, make_runs, make_selection

SUPPORTED, CONTRADICTED, UNDETERMINED = Finding
COMPETITIVE = {
    **{"id": "near", "statement": "near it", "source": "here", "test": "non_inferiority", "method": "edora"},
    **{"baselines": ["lora", "dora"], "tasks": ["rte", "cola"], "margin": 0.01},
}
NEAR = [-0.0102 + x for x in (-0.02, -0.02, 0.0, 0.02, 0.02)]
"""Differences of -1.02 points in the mean, that spread by 2."""
BETTER = COMPETITIVE | {"id": "better", "test": "superiority", "margin": 0.0, "baselines": ["lora"]}
COUNT = {
    **{"id": "count", "statement": "49.2K", "source": "here", "test": "count", "method": "edora"},
    **{"model": "roberta_base", "rank": 16, "expected": 49_152},
}
RATIO = {
    **{"id": "fewer", "statement": "30 times", "source": "here", "test": "ratio", "method": "edora"},
    **{"model": "roberta_base", "ranks": [4, 25], "baselines": [{"method": "lora"}], "at_least": 30},
}


def make_claims(*claims):
    return Claims.model_validate({"level": 0.05, "claims": list(claims)})


def give(claim, rows, **options):
    (verdict,) = judge(make_claims(claim), make_selection(rows), **options)
    return verdict


def make_methods(shift, seeds=5, tasks=("rte", "cola"), **shifts):
    """EDoRA above LoRA and DoRA by `shift` on every seed and task, or by a task's own shift."""
    rows = []
    for task in tasks:
        base = [0.7 + 0.01 * seed for seed in range(seeds)]
        rows += make_runs(task, "edora", [score + shifts.get(task, shift) for score in base])
        rows += [*make_runs(task, "lora", base), *make_runs(task, "dora", base)]
    return rows


def test_within_the_margin_on_every_task_and_seed_five_seeds_support():
    verdict = give(COMPETITIVE, make_methods(-0.005))
    assert (verdict.finding, verdict.on) == (SUPPORTED, "tiny, r=16")
    assert [test.p_for for test in verdict.tests] == [1 / 32] * 4
    assert verdict.tests[0].mean == pytest.approx(-0.005)
    assert verdict.reason == "all of 4 tests speak for it, on 5 seeds or more"


def test_runs_with_a_factored_norm_stand_for_dora_unless_it_has_run_itself():
    rows = make_methods(0.0)
    factored = [row | {"method": "dora_factored"} for row in rows if row["method"] == "dora"]
    assert give(COMPETITIVE, [row for row in rows if row["method"] != "dora"] + factored).finding == SUPPORTED
    lower = [row | {"score": 0.9} for row in factored]
    assert give(COMPETITIVE, rows + lower).finding == SUPPORTED


def test_four_seeds_support_nothing_however_good():
    verdict = give(COMPETITIVE, make_methods(0.1, seeds=4))
    assert verdict.finding == UNDETERMINED
    assert verdict.reason.startswith(
        "4 seeds, where at least 5 are needed to support it and 7 to contradict it"
    )


def test_one_task_outside_of_the_margin_contradicts_once_corrected_for_all_tests():
    """Seven seeds all below: 2^-7 for each of two baselines, times 4 and then 3 tests."""
    verdict = give(COMPETITIVE, make_methods(0.0, seeds=7, cola=-0.05))
    assert verdict.finding == CONTRADICTED
    assert verdict.reason == "below: cola against lora (-5.0, 7 seeds), cola against dora (-5.0, 7 seeds)"
    assert [test.p_against for test in verdict.tests if test.task == "cola"] == [4 / 128, 4 / 128]
    assert give(COMPETITIVE, make_methods(0.0, seeds=6, cola=-0.05)).finding == UNDETERMINED


def test_just_outside_of_the_margin_is_no_support():
    verdict = give(COMPETITIVE, make_methods(-0.011, seeds=5))
    assert verdict.finding == UNDETERMINED
    assert [test.p_for for test in verdict.tests] == [1.0] * 4


def test_it_says_how_many_seeds_would_decide_as_they_spread():
    """Differences of +-2 points about 0: their deviation is 2.19 points, so 10.8 (2.19 / 1)^2 = 51.9.

    All of the four tests have to speak for it: each with a power of 0.95, (1.645 + 1.645)^2 = 10.8.
    """
    rows = []
    for task in ("rte", "cola"):
        rows += make_runs(task, "edora", [0.72, 0.68, 0.72, 0.68, 0.72, 0.68])
        rows += [*make_runs(task, "lora", [0.7] * 6), *make_runs(task, "dora", [0.7] * 6)]
    assert give(COMPETITIVE, rows).reason.endswith("about 52 would decide, were the methods equal")


def test_it_says_how_many_seeds_would_contradict_what_does_not_look_true():
    """CoLA's -6 points spread by 8: 5 beyond the margin, ((2.241 + 0.842) 8 / 5)^2 = 24.3, at 0.05 / 4."""
    rows = [*make_methods(0.0, tasks=["rte"]), *make_runs("cola", "edora", [0.56, 0.64, 0.72, 0.56, 0.72])]
    rows += [*make_runs("cola", "lora", [0.7] * 5), *make_runs("cola", "dora", [0.7] * 5)]
    verdict = give(COMPETITIVE, rows)
    assert (verdict.finding, verdict.tests[1].mean) == (UNDETERMINED, pytest.approx(-0.06))
    assert verdict.tests[1].spread == pytest.approx(0.08)
    assert verdict.reason.endswith("about 25 would contradict it, were the difference the one seen")


def test_a_claim_just_below_its_margin_is_told_how_many_seeds_would_decide():
    """CoLA's -1.02 points spread by 2: 78,000 seeds would tell it from -1, and 44 would tell it from nothing."""
    rows = [*make_methods(0.0, tasks=["rte"]), *make_runs("cola", "edora", [0.7 + x for x in NEAR])]
    rows += [*make_runs("cola", "lora", [0.7] * 5), *make_runs("cola", "dora", [0.7] * 5)]
    verdict = give(COMPETITIVE, rows)
    assert (verdict.tests[1].mean, verdict.tests[1].spread) == (pytest.approx(-0.0102), pytest.approx(0.02))
    assert verdict.reason.endswith("about 44 would decide, were the methods equal")


def test_seeds_that_differ_by_task_are_given_from_the_fewest_to_the_most():
    rows = [*make_methods(0.0, seeds=3, tasks=["rte"]), *make_methods(-0.03, seeds=6, tasks=["cola"])]
    assert give(COMPETITIVE, rows).reason.startswith("3 to 6 seeds, where at least 5 are needed")


def test_tasks_that_share_no_seed_have_no_average():
    first, second = (make_methods(0.03, seeds=2, tasks=[task]) for task in ("rte", "cola"))
    rows = [*first, *(row | {"seed": row["seed"] + 2} for row in second)]
    reason = give(BETTER, rows).reason
    assert reason.startswith("no seed is planned on all tasks against lora; 0 seeds, where at least 5")


def test_an_average_is_of_the_seeds_that_all_tasks_have():
    """Seeds 1 to 5 on RTE and 1 to 6 on CoLA: five decide, and nobody waits for a sixth."""
    rows = [*make_methods(0.03, tasks=["rte"]), *make_methods(0.03, seeds=6, tasks=["cola"])]
    verdict = give(BETTER, rows)
    assert (verdict.finding, verdict.tests[0].entered, verdict.tests[0].planned) == (SUPPORTED, 5, 5)
    reason = give(BETTER, [row for row in rows if row["task"] == "cola" or row["seed"] < 4]).reason
    assert reason.startswith("3 seeds, where at least 5")


def test_a_claim_is_not_judged_at_a_rate_that_the_experiment_gives_to_both_but_for_the_bases():
    rows = [row | {"settings": "trainer.learning_rate=0.001"} for row in make_methods(0.05)]
    verdict = give(BETTER, rows)
    assert (verdict.finding, verdict.tests) == (UNDETERMINED, ())
    assert verdict.reason.endswith("with the same settings and seeds, each at its own learning rate")
    bases = BETTER | {"baselines": ["edora_random"]}
    random = [row | {"method": "edora_random"} if row["method"] == "lora" else row for row in rows]
    assert give(bases, random).finding == SUPPORTED


def test_what_is_missing_or_not_planned_speaks_for_nothing():
    rows = make_methods(0.05, seeds=5)
    rows[0] |= {"score": None, "status": "missing"}
    verdict = give(COMPETITIVE, rows)
    assert verdict.finding == UNDETERMINED
    assert (
        "without all its runs: rte against lora (4/5 seeds), rte against dora (4/5 seeds)" in verdict.reason
    )
    assert verdict.tests[0].mean is None
    verdict = give(COMPETITIVE, make_methods(0.05, tasks=["rte"]))
    assert verdict.finding == UNDETERMINED
    assert verdict.reason.startswith("not planned against lora, dora: cola; 5 seeds")
    without = [row for row in make_methods(0.05) if row["method"] != "dora"]
    assert give(COMPETITIVE, without).reason.startswith("not planned against dora: rte, cola; ")


def test_an_experiment_without_the_pair_says_so():
    verdict = give(COMPETITIVE, make_runs("rte", "edora", [0.9] * 5))
    assert (verdict.finding, verdict.on, verdict.tests) == (UNDETERMINED, "--", ())
    assert "no runs of edora beside lora or dora" in verdict.reason


def test_generated_data_say_nothing():
    verdict = give(COMPETITIVE, make_methods(0.1, seeds=9), is_generated=True)
    assert (verdict.finding, verdict.reason) == (
        UNDETERMINED,
        "the data are generated: they say nothing of GLUE",
    )


def test_ranks_and_models_have_verdicts_of_their_own():
    rows = [*make_methods(0.0), *(row | {"rank": 8} for row in make_methods(-0.2, seeds=7))]
    rows += [row | {"model": "large"} for row in make_methods(0.0, seeds=2)]
    verdicts = judge(make_claims(COMPETITIVE), make_selection(rows))
    assert [(v.on, v.finding) for v in verdicts] == [
        ("tiny, r=16", SUPPORTED),
        ("tiny, r=8", CONTRADICTED),
        ("large, r=16", UNDETERMINED),
    ]


def test_better_is_told_from_the_average_over_tasks_seed_by_seed():
    """A loss on one task is made up for by the other: +3 - 1 over 2 is 1 point on every seed."""
    verdict = give(BETTER, make_methods(0.03, cola=-0.01))
    assert verdict.finding == SUPPORTED
    (test,) = verdict.tests
    assert (test.task, test.mean, test.p_for) == (None, pytest.approx(0.01), 1 / 32)
    assert give(BETTER, make_methods(0.01, cola=-0.03)).finding == CONTRADICTED
    assert give(BETTER, make_methods(0.0)).finding == UNDETERMINED
    assert give(BETTER, make_methods(0.03, seeds=2)).finding == UNDETERMINED


def test_degenerate_runs_count_against_a_method():
    rows = make_methods(0.0)
    for row in rows:
        if row["method"] == "edora" and row["seed"] == 1:
            row |= {"score": 0.5, "degenerate": True}
    assert give(COMPETITIVE, rows).finding == UNDETERMINED


@pytest.mark.parametrize(
    ("changes", "finding"),
    [({}, SUPPORTED), ({"expected": 49_153}, CONTRADICTED), ({"rank": 8}, CONTRADICTED)],
)
def test_a_count_is_exact(changes, finding):
    assert give(COUNT | changes, make_runs("rte", "edora", [0.5])).finding == finding


def test_a_count_is_checked_in_every_run_that_has_it():
    verdict = give(COUNT, make_runs("rte", "edora", [0.5, 0.6], model="roberta_base"))
    assert verdict.reason == "49,152 by the architecture, 49,152 claimed; 49,152 in 2 runs here"
    wrong = make_runs("rte", "edora", [0.5], model="roberta_base", adapter_parameters=49_151)
    assert give(COUNT, wrong).finding == CONTRADICTED
    other = make_runs("rte", "edora", [0.5], model="roberta_base", rank=8, adapter_parameters=1)
    assert give(COUNT, other).finding == SUPPORTED


@pytest.mark.parametrize(
    ("baselines", "at_least", "finding"),
    [
        ([{"method": "lora"}], 30, SUPPORTED),  # 37.9 at r=25
        ([{"method": "lora"}], 38, CONTRADICTED),
        ([{"method": "lora"}, {"method": "lora_qv", "rank": 8}], 30, CONTRADICTED),
    ],
)
def test_up_to_needs_one_rank_and_every_baseline(baselines, at_least, finding):
    verdict = give(RATIO | {"baselines": baselines, "at_least": at_least}, make_runs("rte", "edora", [0.5]))
    assert verdict.finding == finding
    assert "than lora: 10.8 at r=4, 37.9 at r=25" in verdict.reason


def test_the_committed_claims_on_counts():
    verdicts = judge(read_claims(), make_selection(make_runs("rte", "edora", [0.5])))
    found = {v.claim.id: v.finding for v in verdicts}
    assert (found["count"], found["fewer"], found["fewer_qv"]) == (SUPPORTED, SUPPORTED, CONTRADICTED)
    assert {found[name] for name in ("competitive", "better", "bases")} == {UNDETERMINED}
    (qv,) = (v for v in verdicts if v.claim.id == "fewer_qv")
    assert "6.0 at r=16" in qv.reason


def test_the_page_names_statement_source_numbers_and_tests():
    claims = make_claims(COUNT, COMPETITIVE)
    page = write_claims(judge(claims, make_selection(make_methods(-0.005))), claims, PROTOCOL, "A demo")
    assert "| near it | tiny, r=16         | supported |" in page
    assert "**count**: 49.2K. Source: here." in page
    assert "- tiny, r=16: **supported**. All of 4 tests speak for it, on 5 seeds or more." in page
    row = next(line for line in page.splitlines() if line.startswith("| near ") and "DoRA" in line)
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        *("near", "tiny, r=16", "DoRA", "RTE", "5/5", "-0.50", "0.0312", "1")
    ]
    assert "Protocol best_epoch" in page
    claims = make_claims(COUNT)
    assert "tests" not in write_claims(judge(claims, make_selection(make_methods(0))), claims, PROTOCOL, "t")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": "guess"}, r"claims\.yaml: claims\.0: .*'guess'"),
        ({"margin": -1}, r"claims\.yaml: claims\.0\.non_inferiority\.margin: "),
        ({"tasks": []}, r"claims\.yaml: claims\.0\.non_inferiority\.tasks: "),
        ({"tasks": ["colla"]}, r"claims\.yaml: near: task=colla: allowed is one of cola, "),
        ({"method": "edroa"}, r"claims\.yaml: near: method=edroa: allowed is one of dora, "),
        ({"baselines": ["lorra"]}, r"claims\.yaml: near: method=lorra: allowed is one of dora, "),
        ({"tsaks": ["rte"]}, r"claims\.yaml: claims\.0\.non_inferiority\.tsaks: "),
    ],
)
def test_a_wrong_claim_is_one_line(tmp_path, changes, message):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"level": 0.05, "claims": [COMPETITIVE | changes]}))
    with pytest.raises(InputError, match=message) as caught:
        read_claims(path)
    assert "\n" not in str(caught.value)
    path.write_text(yaml.safe_dump({"level": 0.05, "claims": [COMPETITIVE, COMPETITIVE]}))
    with pytest.raises(InputError, match=r"claims\.yaml: id=near: allowed is one claim an id"):
        read_claims(path)
    path.write_text("claims: [")
    with pytest.raises(InputError, match="not readable"):
        read_claims(path)
