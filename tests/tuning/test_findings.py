"""What a search found: the choice, what speaks against it, and how it is written down."""

from dataclasses import replace

import numpy as np
import pytest
from omegaconf import OmegaConf

from glue_harness.analysis.scoring import score_runs
from glue_harness.runs.record import Status
from glue_harness.tuning.descriptions import describe_tuned, show_rate, tabulate_findings
from glue_harness.tuning.findings import find
from tests.support.planned_runs import BEST, make_cell, make_plan, make_record, write_run


def collect_trials(tmp_path, scores, task="rte", method="lora", **found_by):
    """Return the findings of trials with `scores`: (learning rate, head rate[, alpha]) -> score, or what else."""
    from glue_harness.evidence.collect import collect

    cells = [
        make_cell(
            task=task, method=method, learning_rate=rate, head_learning_rate=head, alpha=(*alpha, 16)[0]
        )
        for rate, head, *alpha in scores
    ]
    plan = make_plan(cells, tmp_path)
    for cell, score in zip(cells, scores.values(), strict=True):
        if score is None:
            continue
        changes = score if isinstance(score, dict) else {"scores": (score - 0.1, score)}
        write_run(make_record(cell, **changes), tmp_path / "runs")
    return find(score_runs(collect(plan, tmp_path / "runs", tmp_path / "results"), BEST), **found_by)


def rates(finding):
    return (
        None if finding.best is None else (finding.best["learning_rate"], finding.best["head_learning_rate"])
    )


FIVE = {(rate, head): 0.6 for rate in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2) for head in (1e-3, 3e-3)}


def search(tmp_path, **by_task):
    """Return the findings of LoRA's trials, by task: FIVE's pairs at 0.6, and what is given."""
    return [
        finding
        for task, scores in by_task.items()
        for finding in collect_trials(tmp_path / task, FIVE | scores, task=task)
    ]


def test_the_highest_score_is_chosen(tmp_path):
    (finding,) = collect_trials(tmp_path, FIVE | {(1e-3, 3e-3): 0.7, (3e-3, 1e-3): 0.69})
    assert rates(finding) == (1e-3, 3e-3)
    assert finding.best["score"] == 0.7
    assert finding.key == ("tiny", "lora", "rte")
    assert finding.edges == []


def test_of_equals_the_lowest_rates_are_chosen(tmp_path):
    (finding,) = collect_trials(tmp_path, FIVE | {(1e-3, 3e-3): 0.7, (1e-3, 1e-3): 0.7, (3e-3, 1e-3): 0.7})
    assert rates(finding) == (1e-3, 1e-3)


@pytest.mark.parametrize("edge", [1e-4, 1e-2])
def test_a_choice_at_the_edge_says_so(tmp_path, edge):
    (finding,) = collect_trials(tmp_path, FIVE | {(edge, 1e-3): 0.9})
    assert finding.edges == ["learning_rate"]
    assert f"{show_rate(edge)} **at the edge**" in tabulate_findings([finding], "T", 0.2, BEST)
    assert "outside: LoRA (r=16) on RTE." in tabulate_findings([finding], "T", 0.2, BEST)
    assert "# At the edge of what was tried: learning_rate\n" in describe_tuned(
        finding, "make tune", "t.md", 0.2
    )


@pytest.mark.parametrize(("chosen", "edges"), [(1e-2, ["learning_rate"]), (1e-3, [])])
def test_a_final_round_has_the_edges_of_the_round_before_it(tmp_path, chosen, edges):
    (first,) = collect_trials(tmp_path / "first", FIVE)
    (final,) = collect_trials(tmp_path / "final", {(chosen, 1e-3): 0.9, (3e-4, 1e-3): 0.8})
    assert final.edges == []
    assert replace(final, earlier=tuple(first.trials)).edges == edges


def test_within_a_standard_error_the_lowest_rate_is_chosen(tmp_path):
    """One of 0.8 on 400 rows is 0.02; of equal rates the higher score wins, whatever its alpha."""
    scores = {(1e-4, 1e-3, 16): 0.77, (3e-4, 1e-3, 4): 0.785, (3e-4, 1e-3, 16): 0.79, (1e-3, 1e-3, 16): 0.8}
    (finding,) = collect_trials(tmp_path, scores, choice="one_standard_error", held_out={"rte": 400})
    assert finding.compute_standard_error(0.8) == pytest.approx(0.02)
    assert (*rates(finding), finding.best["alpha"]) == (3e-4, 1e-3, 16)
    text = describe_tuned(finding, "make tune", "t.md", 0.2)
    assert "# At the lowest learning rate of all within one standard error (0.0200) of 0.8000\n" in text
    assert text.endswith("learning_rate: 0.0003\nhead_learning_rate: 0.001\nalpha: 16\nrank: 16\n")
    assert OmegaConf.create(text).alpha == 16
    table = tabulate_findings([finding], "T", 0.2, BEST)
    assert "| Alpha   |" in table
    assert "- Chosen is the lowest learning rate whose score is within one standard error" in table


def test_the_standard_error_of_a_correlation(tmp_path):
    """That of Pearson's r of normal variables, by 4,000 draws of 100 rows."""
    (finding,) = collect_trials(tmp_path, {(1e-3, 1e-3): 0.6}, task="cola", held_out={"cola": 100})
    generator = np.random.default_rng(0)
    first, noise = generator.standard_normal((2, 4000, 100))
    second = 0.6 * first + 0.8 * noise
    drawn = [np.corrcoef(*pair)[0, 1] for pair in zip(first, second, strict=True)]
    assert finding.compute_standard_error(0.6) == pytest.approx(np.std(drawn), rel=0.05)


def test_trials_of_other_numbers_are_not_called_equal(tmp_path):
    two = {(1e-3, 1e-3): 0.9, (3e-4, 1e-3): 0.8}
    findings = [*collect_trials(tmp_path / "a", FIVE), *collect_trials(tmp_path / "b", two, task="cola")]
    assert "as many trials planned" not in tabulate_findings(findings, "T", 0.2, BEST)


def test_a_rate_of_two_values_has_no_edge(tmp_path):
    (finding,) = collect_trials(tmp_path, FIVE | {(1e-3, 3e-3): 0.9})
    assert finding.edges == []
    assert "Of a rate with two values either is an edge" in tabulate_findings([finding], "T", 0.2, BEST)


@pytest.mark.parametrize("unfinished", [None, {"status": Status.FAILED}])
def test_nothing_is_chosen_while_a_trial_is_out(tmp_path, unfinished):
    (finding,) = collect_trials(tmp_path, FIVE | {(1e-3, 3e-3): 0.9, (1e-2, 3e-3): unfinished})
    assert finding.best is None
    table = tabulate_findings([finding], "T", 0.2, BEST)
    assert "| 9 of 10 trials" + (", 1 failed" if unfinished else "") in table
    assert "Without a choice (--)" in table
    with pytest.raises(ValueError, match="there is no best trial"):
        describe_tuned(finding, "make tune", "t.md", 0.2)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"status": Status.DIVERGED, "majority_score": 0.9},
        {"scores": (0.5, 0.9), "degenerate": [1, 2], "majority_score": 0.9},
    ],
)
def test_a_trial_that_has_learnt_nothing_is_not_chosen(tmp_path, spoilt):
    (finding,) = collect_trials(tmp_path, FIVE | {(1e-3, 3e-3): spoilt})
    assert len(finding.scored) == 10
    assert finding.best is None


def test_the_table_by_hand(tmp_path):
    scores = {
        (1e-5, 1e-3): 0.61,
        (1e-5, 3e-3): 0.62,
        (3e-5, 1e-3): 0.8125,
        (3e-5, 3e-3): 0.64,
        (1e-4, 1e-3): 0.65,
        (1e-4, 3e-3): 0.66,
    }
    findings = collect_trials(tmp_path, scores, method="full")
    assert tabulate_findings(findings, "The search", 0.2, BEST) == (
        "**The search**\n\n"
        "| Task           | Method           | Trials   | Learning rate   | Head learning rate   | Score   | Median   "
        "| Best score at each rate                   |\n"
        "|:---------------|:-----------------|:---------|:----------------|:---------------------|:--------|:---------"
        "|:------------------------------------------|\n"
        "| RTE (accuracy) | Full fine-tuning | 6 trials | 3e-5            | 0.001                | 81.25   | 64.50    "
        "| 1e-5: 62.00 · 3e-5: 81.25 · 0.0001: 66.00 |\n\n"
        "- Trained on 80 % of train for 2 epochs, seed 1; a score is the best epoch's on the other 20 % of train, in "
        "percent. No dev row was read.\n"
        "- Every method has as many trials planned on every task.\n"
        "- Chosen is the highest score, of equals the lowest rates.\n"
        "- Of a rate with two values either is an edge, which is not marked.\n"
        "- Provenance: commit 0123456; precision fp32; hardware Intel(R) Xeon(R) @ 2.10GHz, 100%_#1; numerics 1.\n"
    )


def test_a_tuned_file_by_hand_and_by_its_reader(tmp_path):
    (finding,) = collect_trials(tmp_path, FIVE | {(3e-4, 1e-3): 0.8125})
    text = describe_tuned(finding, "make tune MODEL=tiny", "results/tune-tiny/search.md", 0.2)
    assert text == (
        "# Found by `make tune MODEL=tiny`; all trials: results/tune-tiny/search.md\n"
        "# 10 trials: learning_rate 0.0001 to 0.01, head_learning_rate 0.001 to 0.003, alpha 16; rank 16, seed 1, 2 epochs\n"
        "# Trained on 80 % of train, scored on the other 20 %; no dev row was read\n"
        "# accuracy 0.8125, the trials' median 0.6000\n"
        "# Code 0123456; numerics 1\n"
        "learning_rate: 0.0003\n"
        "head_learning_rate: 0.001\n"
    )
    read = OmegaConf.create(text)
    assert (read.learning_rate, read.head_learning_rate) == (3e-4, 1e-3)


@pytest.mark.parametrize("rate", [1e-5, 3e-5, 1e-4, 0.3, 1.2345678901234567e-05])
def test_a_rate_is_read_back_exactly(tmp_path, rate):
    (finding,) = collect_trials(tmp_path, {(rate, 1e-3): 0.8})
    assert OmegaConf.create(describe_tuned(finding, "make tune", "t.md", 0.2)).learning_rate == rate
