import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmtl import metrics
from jaxmtl.metrics import Metric
from jaxmtl.types import Task

BINARY = st.integers(0, 1)
few = settings(max_examples=40, deadline=None)
CLICK = Task("click")
WATCH = Task("watch", kind="continuous", space="click", metric="mse")
SPEND = Task("spend", kind="continuous", space="click", high=500.0, metric="mse")


@st.composite
def scored_rows(draw, label=BINARY):
    """Labels, scores on a coarse grid (so that they tie) and users."""
    rows = draw(
        st.lists(
            st.tuples(label, st.integers(0, 6), st.integers(0, 4)),
            min_size=1,
            max_size=40,
        )
    )
    labels, scores, users = (np.array(column) for column in zip(*rows, strict=True))
    return labels.astype(np.float64), scores / 6, users


def pairwise_auc(labels, scores):
    """AUC by its definition, pair by pair; None when a class is missing."""
    wins = [
        (p > n) + (p == n) / 2 for p in scores[labels > 0] for n in scores[labels == 0]
    ]
    return sum(wins) / len(wins) if wins else None


def test_auc_by_hand_counts_a_tie_as_half():
    # Pairs (positive, negative): .9>.4, .9>.1, .4=.4, .4>.1.
    found = metrics.auc([1, 0, 1, 0], [0.9, 0.4, 0.4, 0.1])
    assert found == Metric(3.5 / 4, n=4, positives=2)


@few
@given(scored_rows())
def test_auc_equals_its_definition_and_scikit_learn(rows):
    labels, scores, _ = rows
    found = metrics.auc(labels, scores)
    assert found.value == pytest.approx(pairwise_auc(labels, scores), abs=1e-12)
    if found.value is not None:
        oracle = sklearn.metrics.roc_auc_score(labels, scores)
        assert found.value == pytest.approx(oracle, abs=1e-12)


@few
@given(scored_rows())
def test_auc_of_reversed_scores_is_its_complement(rows):
    labels, scores, _ = rows
    forward, backward = metrics.auc(labels, scores), metrics.auc(labels, -scores)
    if forward.value is not None:
        assert forward.value + backward.value == pytest.approx(1)


def test_auc_of_one_class_is_undefined_and_says_its_counts():
    assert metrics.auc([0, 0, 0], [0.1, 0.2, 0.3]) == Metric(None, 3, 0)
    assert metrics.auc([1, 1], [0.1, 0.2]) == Metric(None, 2, 2)
    assert metrics.auc([], []) == Metric(None, 0, 0)
    assert str(metrics.auc([0] * 12, [0.5] * 12)) == "undefined (n=12, positives=0)"


def test_grouped_auc_by_hand_weighs_users_by_rows_and_drops_one_class_users():
    users = ["b", "a", "b", "a", "a", "c", "b", "b"]
    labels = [1, 1, 0, 0, 0, 1, 1, 0]
    scores = [0.9, 0.5, 0.1, 0.5, 0.7, 0.3, 0.2, 0.4]
    # a: (.5 tie, lost) = 1/4 over 3 rows; b: 3 of 4 pairs over 4 rows; c: no pair.
    found = metrics.grouped_auc(labels, scores, users)
    assert found.value == pytest.approx((3 * 0.25 + 4 * 0.75) / 7)
    assert (found.n, found.positives, found.users) == (7, 3, 2)


@few
@given(scored_rows())
def test_grouped_auc_equals_a_loop_over_users(rows):
    labels, scores, users = rows
    values, weights = [], []
    for user in np.unique(users):
        value = pairwise_auc(labels[users == user], scores[users == user])
        if value is not None:
            values.append(value)
            weights.append(np.sum(users == user))
    found = metrics.grouped_auc(labels, scores, users)
    assert (found.n, found.users) == (sum(weights), len(weights))
    if values:
        assert found.value == pytest.approx(np.average(values, weights=weights))
    else:
        assert found.value is None


@few
@given(scored_rows())
def test_grouped_auc_of_one_user_is_auc(rows):
    labels, scores, _ = rows
    grouped = metrics.grouped_auc(labels, scores, np.zeros(len(labels)))
    assert grouped.value == pytest.approx(metrics.auc(labels, scores).value)


@few
@given(scored_rows(label=st.sampled_from([0.0, 0.25, 1.0])))
def test_errors_equal_scikit_learn_on_soft_labels(rows):
    labels, scores, _ = rows
    mse = sklearn.metrics.mean_squared_error(labels, scores)
    assert metrics.mse(labels, scores).value == pytest.approx(mse, abs=1e-12)
    positive = labels > 0
    found = metrics.mse_positive(labels, scores)
    assert (found.n, found.positives) == (positive.sum(), positive.sum())
    if positive.any():
        mse = sklearn.metrics.mean_squared_error(labels[positive], scores[positive])
        assert found.value == pytest.approx(mse, abs=1e-12)
        ratio = scores.sum() / labels.sum()
        assert metrics.calibration(labels, scores).value == pytest.approx(ratio)
    else:
        assert found.value is None
        assert metrics.calibration(labels, scores).value is None


@few
@given(scored_rows())
def test_log_loss_equals_scikit_learn_and_is_finite_at_0_and_1(rows):
    labels, scores, _ = rows
    clipped = np.clip(scores, metrics.CLIP, 1 - metrics.CLIP)
    oracle = sklearn.metrics.log_loss(labels, clipped, labels=[0, 1])
    assert metrics.log_loss(labels, scores).value == pytest.approx(oracle, abs=1e-12)


def test_log_loss_of_a_soft_label_by_hand_bottoms_out_at_its_entropy():
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert metrics.log_loss([0.25], [0.25]).value == pytest.approx(entropy)
    assert metrics.log_loss([0.25], [0.5]).value == pytest.approx(math.log(2))


def test_log_loss_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"row 1: prediction 1.5 .*not logits"):
        metrics.log_loss([0, 1], [0.5, 1.5])
    with pytest.raises(ValueError, match="row 0: label 3.0"):
        metrics.log_loss([3], [0.5])


def test_no_rows_leave_every_metric_undefined():
    for metric in (metrics.mse, metrics.mse_positive, metrics.log_loss):
        assert metric([], []) == Metric(None, 0, 0)
    assert metrics.calibration([], []) == Metric(None, 0, 0)
    assert metrics.grouped_auc([], [], []) == Metric(None, 0, 0, users=0)


def log():
    nan = np.nan
    return {
        "click": np.float32([1, 0, 1, 1, nan, 0]),
        "watch": np.float32([0.5, 0, nan, 1, 1, nan]),
        "spend": np.float32([0, 0, 30, 10, 5, 5]),
    }


def test_space_holds_rows_with_a_label_and_a_positive_label_of_the_space():
    labels = log()
    rows = np.flatnonzero
    assert list(rows(CLICK.inside(labels))) == [0, 1, 2, 3, 5]
    assert list(rows(WATCH.inside(labels))) == [0, 3]
    assert list(rows(SPEND.inside(labels))) == [0, 2, 3]


def test_evaluate_scores_a_task_in_its_space_alone():
    predictions = np.float32([0.75, 0.9, 0.9, 0.5, 0.9, 0.9])
    found = metrics.evaluate(WATCH, log(), predictions, np.arange(6))
    assert found["mse"].value == pytest.approx((0.25**2 + 0.5**2) / 2)
    assert found["mse"][1:4] == (2, 2, "click")
    assert found["calibration"].value == pytest.approx(1.25 / 1.5)
    inside = [0, 3]
    changed = predictions + 0.05 * ~np.isin(np.arange(6), inside)
    assert metrics.evaluate(WATCH, log(), changed, np.arange(6)) == found


def test_evaluate_gives_the_metrics_that_fit_the_kind():
    both = {"mse", "mse_positive", "calibration"}
    predictions, users = np.full(6, 0.5), np.zeros(6)
    names = {
        task.name: set(metrics.evaluate(task, log(), predictions, users))
        for task in (CLICK, WATCH, SPEND)
    }
    assert names == {
        "click": both | {"auc", "gauc", "log_loss"},
        "watch": both | {"log_loss"},
        "spend": both,
    }


def test_evaluate_on_impressions_equals_each_metric_without_the_missing_rows():
    labels, users = log(), np.array([1, 1, 2, 2, 2, 2])
    predictions = np.array([0.8, 0.3, 0.6, 0.2, 0.1, 0.4])
    known = ~np.isnan(labels["click"])
    y, p = labels["click"][known], predictions[known]
    found = metrics.evaluate(CLICK, labels, predictions, users)
    assert found["auc"] == metrics.auc(y, p)
    assert found["gauc"] == metrics.grouped_auc(y, p, users[known])
    assert found["log_loss"] == metrics.log_loss(y, p)
    assert {m.space for m in found.values()} == {"impression"}


def test_evaluate_without_a_row_in_the_space_is_undefined_with_counts():
    labels = {"click": np.zeros(3), "watch": np.zeros(3)}
    found = metrics.evaluate(WATCH, labels, np.full(3, 0.5), np.arange(3))
    assert {str(m) for m in found.values()} == {"undefined (n=0, positives=0)"}


def test_evaluate_names_the_first_prediction_that_is_not_finite():
    # Row 1 lies outside the space of `watch`, and still tells of a diverged net.
    predictions = np.array([0.5, np.nan, 0.5, np.inf, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"'watch', row 1: prediction is nan"):
        metrics.evaluate(WATCH, log(), predictions, np.arange(6))


def test_wrong_shapes_and_labels_are_refused_with_what_was_given():
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        metrics.auc([0, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="row 1: label 0.5 is neither 0 nor 1"):
        metrics.auc([0, 0.5], [0.1, 0.2])
    with pytest.raises(ValueError, match="row 0: prediction is nan"):
        metrics.mse([0.0], [np.nan])
    with pytest.raises(ValueError, match=r"users have shape \(1,\)"):
        metrics.grouped_auc([0, 1], [0.1, 0.2], [7])
    with pytest.raises(ValueError, match=r"predictions have shape \(2,\)"):
        metrics.evaluate(CLICK, log(), np.zeros(2), np.arange(6))
    with pytest.raises(ValueError, match=r"'watch'.*needs labels \['click'\]"):
        metrics.evaluate(WATCH, {"watch": np.zeros(2)}, np.zeros(2), np.arange(2))


def test_each_metric_says_in_which_direction_it_is_better():
    """Of a perfect prediction and a reversed one; calibration has no direction."""
    labels, users = np.array([0.0, 1.0, 0.0, 1.0]), np.zeros(4)
    task = Task("click")
    good, bad = (
        metrics.evaluate(task, {"click": labels}, p, users)
        for p in (np.abs(labels - 0.1), np.abs(labels - 0.9))
    )
    for name in set(good) - {"calibration"}:
        gains = good[name].value > bad[name].value
        assert metrics.higher_is_better(name) == gains, name
