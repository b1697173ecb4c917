"""ROC and calibration, against hand cases, scikit-learn and each other's limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from test_report import SHOP, shop

from experiments.analysis.report import curves
from experiments.running.workdir import write_arrays
from experiments.settings import scores
from experiments.settings.ablation import Ablation, Row
from jaxmtl import metrics


def test_roc_of_a_case_small_enough_to_draw():
    # From the top: positive, negative, positive, negative.
    found = curves.roc([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    assert found[0] == 0.5  # one of two positives above every negative
    assert found[25] == 0.5 and found[49] == 0.5
    assert found[50] == 1.0 and found[100] == 1.0


def test_a_tie_is_a_slope_and_no_step():
    found = curves.roc([1, 0], [0.5, 0.5])
    np.testing.assert_allclose(found, curves.RATES)


@given(st.integers(2, 60), st.integers(0, 10_000), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_roc_agrees_with_scikit_learn(n, seed, levels):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2)
    predicted = rng.integers(levels, size=n) / 10
    found = curves.roc(labels, predicted)
    x, y, _ = sk.roc_curve(labels, predicted, drop_intermediate=False)
    np.testing.assert_allclose(found, np.interp(curves.RATES, x, y), atol=1e-12)
    assert (np.diff(found) >= 0).all() and found[-1] == 1


def test_area_under_a_roc_curve_is_the_auc():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 5_000)
    predicted = rng.normal(size=5_000) + labels
    area = sk.auc(curves.RATES, curves.roc(labels, predicted))
    assert area == pytest.approx(metrics.auc(labels, predicted).value, abs=1e-3)


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_one_class_has_no_roc_curve(labels):
    assert curves.roc(labels, [0.1, 0.2]) is None


def test_calibration_bins_hold_equally_many_rows_by_rising_prediction():
    predicted = np.arange(40) / 40
    labels = (np.arange(40) % 2).astype(float)
    mean, observed = curves.calibration(labels, predicted)
    np.testing.assert_allclose(mean, predicted.reshape(10, 4).mean(axis=1))
    np.testing.assert_allclose(observed, 0.5)
    assert len(curves.calibration([1.0], [0.3])[0]) == 1


def test_calibration_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    predicted = rng.random(1_000)
    labels = (rng.random(1_000) < predicted).astype(int)
    mean, observed = curves.calibration(labels, predicted)
    theirs = calibration_curve(labels, predicted, n_bins=10, strategy="quantile")
    np.testing.assert_allclose((observed, mean), theirs, atol=1e-12)


def test_a_row_is_measured_in_each_space_and_averaged_over_its_seeds(tmp_path):
    data, chance = shop()
    row = Ablation("lt4rec.base_ctr", Row("base ctr"), None)
    noise = np.random.default_rng(2).normal(size=(2, 400)) / 3
    predictions = [
        {"visit": chance["visit"] + part, "buy": chance["buy"]} for part in noise
    ]
    for seed, arrays in enumerate(predictions):
        write_arrays(tmp_path / f"rows/{row.module}/seed{seed}/predictions.npz", arrays)
    unfinished = row._replace(module="lt4rec.base_cvr")
    found = curves.measure([row, unfinished], [0, 1], data, tmp_path)
    assert list(found["rows"]) == [row.module]
    roles = found["rows"][row.module]
    labels = scores.labels_of(data, "test")
    clicked = SHOP.task("buy").inside(labels)
    assert roles["ctr"]["n"] == 400 and roles["cvr"]["n"] == clicked.sum()
    expected = [curves.roc(labels["visit"], p["visit"]) for p in predictions]
    np.testing.assert_allclose(roles["ctr"]["roc"], np.mean(expected, 0), atol=1e-5)
    inside = curves.calibration(labels["buy"][clicked], chance["buy"][clicked])
    observed = roles["cvr"]["calibration"]["observed"]
    np.testing.assert_allclose(observed, inside[1], atol=1e-5)
