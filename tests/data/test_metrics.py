import numpy as np
import pytest
from scipy import stats

from glue_harness.config.schema import Task
from glue_harness.data.metrics import GlueMetric, is_degenerate, predict, score_majority, score_parts

MRPC = Task(name="mrpc", labels=["no", "yes"], metrics=["accuracy", "f1"], headline="accuracy")
COLA = Task(
    name="cola", labels=["no", "yes"], metrics=["matthews_correlation"], headline="matthews_correlation"
)
STSB = Task(name="stsb", labels=[], metrics=["pearson", "spearman"], headline="pearson")


def logits_of(predictions: list[int]) -> np.ndarray:
    return np.eye(2, dtype=np.float32)[predictions]


def test_accuracy_and_f1_by_hand():
    """3 of 5 right; precision 2/3, recall 2/3."""
    scores = score_parts(logits_of([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0]), MRPC, {})
    assert scores["all"] == pytest.approx({"accuracy": 3 / 5, "f1": 2 / 3})


def test_matthews_by_hand():
    """TP 2, TN 1, FP 1, FN 1: (2*1 - 1*1) / sqrt(3*3*2*2) = 1/6."""
    scores = score_parts(logits_of([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0]), COLA, {})
    assert scores["all"]["matthews_correlation"] == pytest.approx(1 / 6)


def test_correlations_are_scipys():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(40, 1)), generator.normal(size=40)
    scores = score_parts(logits, labels, STSB, {})["all"]
    assert scores["pearson"] == pytest.approx(stats.pearsonr(labels, logits[:, 0]).statistic)
    assert scores["spearman"] == pytest.approx(stats.spearmanr(labels, logits[:, 0]).statistic)


def test_halves_are_the_even_and_the_odd_rows():
    scores = score_parts(logits_of([1, 0, 1, 0]), np.array([1, 1, 1, 1]), MRPC, {})
    assert [scores[part]["accuracy"] for part in ("all", "even", "odd")] == [0.5, 1.0, 0.0]


def test_named_parts_are_scored_apart():
    parts = {"matched": slice(0, 3), "mismatched": slice(3, 4)}
    scores = score_parts(logits_of([1, 0, 1, 0]), np.array([1, 1, 1, 1]), MRPC, parts)
    assert scores["matched"]["accuracy"] == pytest.approx(2 / 3)
    assert scores["mismatched"]["accuracy"] == 0.0


def test_an_undefined_correlation_is_none_and_never_zero():
    scores = score_parts(np.ones((4, 1)), np.array([1.0, 2.0, 3.0, 4.0]), STSB, {})
    assert scores["all"] == {"pearson": None, "spearman": None}


def test_majority_is_trains_majority_scored_on_dev():
    train, dev = np.array([1, 1, 0]), np.array([1, 0, 0, 0])
    assert score_majority(train, dev, MRPC) == 0.25
    assert score_majority(train, dev, COLA) == 0.0


def test_degenerate_means_one_prediction_for_every_row():
    assert is_degenerate(logits_of([1, 1, 1]), MRPC)
    assert not is_degenerate(logits_of([1, 0, 1]), MRPC)
    assert is_degenerate(np.ones((3, 1)), STSB)
    assert not is_degenerate(np.array([[1.0], [1.1]]), STSB)


def test_predictions_are_ids_or_scores():
    np.testing.assert_array_equal(predict(np.array([[0.1, 0.9], [2.0, 1.0]]), MRPC), [1, 0])
    np.testing.assert_array_equal(predict(np.array([[3.5], [1.0]]), STSB), [3.5, 1.0])


def test_metric_needs_no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a request")

    monkeypatch.setattr("socket.socket.connect", refuse)
    metric = GlueMetric(["accuracy"], regression=False)
    assert metric.compute(predictions=[1, 0], references=[1, 1]) == {"accuracy": 0.5}
