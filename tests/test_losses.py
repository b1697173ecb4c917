"""Losses count the rows of a task's own label space, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize

from jaxmtl import losses
from jaxmtl.types import Batch, Rows, Task

NAN = float("nan")
few = settings(max_examples=30, deadline=None)
CLICK = Task("click")
WATCH = Task("watch", "continuous", space="click", metric="mse")
SPEND = Task("spend", "continuous", space="click", high=500, metric="mse")


def make_batch(labels, valid=None, duration=None):
    f32 = lambda column: jnp.asarray(column, jnp.float32)
    labels = {name: f32(column) for name, column in labels.items()}
    n = len(next(iter(labels.values())))
    extras = {} if duration is None else {"duration": f32(duration)}
    rows = Rows(jnp.zeros((n, 1), jnp.int32), jnp.zeros((n, 0)), labels, extras, {})
    return Batch(rows, jnp.asarray([True] * n if valid is None else valid))


def loss_of(task, logits, batch, name, weight=None, positive=1.0):
    logits = jnp.asarray(logits, jnp.float32)
    return losses.task_loss(
        task, logits, batch, name=name, weight=weight, positive=positive
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def oracle(name, logits, labels):
    """By row, in float64, from the definitions."""
    p, y = sigmoid(logits), np.asarray(labels, np.float64)
    if name == "log":
        return -y * np.log(p) - (1 - y) * np.log(1 - p)
    if name == "focal":
        positive, negative = -0.75 * (1 - p) ** 2, -0.25 * p**2
        return y * positive * np.log(p) + (1 - y) * negative * np.log(1 - p)
    return (p - y) ** 2


def test_log_loss_by_hand():
    batch = make_batch({"click": [1, 0, NAN, 1]}, valid=[True, True, True, False])
    loss = loss_of(CLICK, [0, np.log(3), 9, 9], batch, "log")
    np.testing.assert_allclose(
        loss.values, [np.log(2), np.log(4), 0, 0], rtol=1e-6, atol=0
    )
    np.testing.assert_allclose(loss.total, np.log(8), rtol=1e-6)
    assert int(loss.count) == 2
    np.testing.assert_allclose(loss.mean, np.log(8) / 2, rtol=1e-6)


def test_focal_loss_by_hand():
    """At p = 1/2: α/4·ln 2 for a positive row, (1 - α)/4·ln 2 for a negative one."""
    loss = loss_of(CLICK, [0, 0], make_batch({"click": [1, 0]}), "focal")
    np.testing.assert_allclose(loss.values, np.log(2) * np.array([3, 1]) / 16, 1e-6)


def test_squared_loss_is_taken_on_the_prediction():
    batch = make_batch({"click": [1, 1], "watch": [0.5, 1], "spend": [20, 0]})
    share = loss_of(WATCH, [0, np.log(3)], batch, "squared")
    np.testing.assert_allclose(share.values, [0, 1 / 16], atol=1e-7)
    amount = loss_of(SPEND, [23, 2], batch, "squared")
    np.testing.assert_allclose(amount.values, [9, 4])


def test_conversion_counts_on_clicked_rows_alone():
    batch = make_batch({"click": [1, 0, NAN, 1], "watch": [0.5, 0.5, 0.5, NAN]})
    loss = loss_of(WATCH, [9, 9, 9, 9], batch, "squared")
    assert int(loss.count) == 1
    np.testing.assert_array_equal(loss.values[1:], 0)


def test_soft_labels_have_their_own_entropy_as_least_log_loss():
    batch = make_batch({"click": [1], "watch": [0.25]})
    value = lambda logit: float(loss_of(WATCH, [logit], batch, "log").mean)
    best = float(np.log(0.25 / 0.75))
    entropy = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
    np.testing.assert_allclose(value(best), entropy, rtol=1e-6)
    assert value(best) < min(value(best - 0.1), value(best + 0.1))


@pytest.mark.parametrize("name", ["log", "focal", "squared"])
def test_without_a_labelled_row_loss_and_gradient_are_zero(name):
    batch = make_batch({"click": [0, 0], "watch": [NAN, NAN]})
    mean = lambda logits: loss_of(WATCH, logits, batch, name).mean
    value, gradient = jax.value_and_grad(mean)(jnp.array([3.0, -3.0]))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", ["log", "focal", "squared"])
def test_missing_label_leaves_the_other_rows_gradients_finite(name):
    batch = make_batch({"click": [NAN, 1]})
    mean = lambda logits: loss_of(CLICK, logits, batch, name).mean
    gradient = jax.grad(mean)(jnp.array([1.0, 1.0]))
    assert gradient[0] == 0
    assert np.isfinite(gradient[1]) and gradient[1] < 0


compiled = jax.jit(losses.task_loss, static_argnums=0, static_argnames="name")


@pytest.mark.parametrize("name", ["log", "focal", "squared"])
@settings(max_examples=15, deadline=None)
@given(
    hnp.arrays(np.float32, 6, elements=st.floats(-8, 8, width=32)),
    hnp.arrays(np.float32, 6, elements=st.floats(0, 1, width=32)),
    hnp.arrays(bool, 6),
)
def test_agrees_with_the_definition_eager_and_compiled(name, logits, labels, valid):
    batch = make_batch({"click": np.ones(6), "watch": labels}, valid=valid)
    expected = np.where(valid, oracle(name, logits, labels), 0)
    loss = loss_of(WATCH, logits, batch, name)
    np.testing.assert_allclose(loss.values, expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(loss.total, expected.sum(), rtol=2e-5, atol=1e-5)
    assert int(loss.count) == valid.sum()
    again = compiled(WATCH, jnp.asarray(logits), batch, name=name, weight=None)
    np.testing.assert_allclose(again.values, loss.values, rtol=1e-6, atol=1e-7)


def test_weight_scales_a_rows_loss_and_is_no_count():
    batch = make_batch({"click": [1, 1]})
    plain = loss_of(CLICK, [0, 0], batch, "log")
    weighted = loss_of(CLICK, [0, 0], batch, "log", weight=jnp.array([5.0, 1.0]))
    np.testing.assert_allclose(weighted.values, plain.values * np.array([5, 1]))
    assert int(weighted.count) == 2


def test_duration_rule_by_hand():
    labels = [0.0, 0.05, 0.1, 0.15, 0.15, 0.2, NAN]
    duration = [61, 61, 61, 61, 60, 60, 60]
    batch = make_batch({"watch": labels}, duration=duration)
    weight = losses.duration_conflict("watch", 5.0)(batch)
    np.testing.assert_array_equal(weight, [1, 5, 1, 1, 5, 1, 1])


def test_threshold_rule_by_hand():
    batch = make_batch({"watch": [0.0, 0.29, 0.3, NAN]})
    weight = losses.threshold_conflict("watch", 5.0, 0.3)(batch)
    np.testing.assert_array_equal(weight, [5, 5, 1, 1])


def test_predictions_are_probabilities_unless_the_label_is_an_amount():
    logits = jnp.array([0.0, jnp.log(3.0)])
    for task in (CLICK, WATCH):
        np.testing.assert_allclose(losses.predict(task, logits), [0.5, 0.75], 1e-6)
    np.testing.assert_array_equal(losses.predict(SPEND, logits), logits)


@pytest.mark.parametrize("name", ["log", "focal"])
def test_cross_entropy_of_an_amount_is_refused(name):
    batch = make_batch({"click": [1], "spend": [20]})
    with pytest.raises(ValueError, match="'spend' has labels up to 500.*use 'squared'"):
        loss_of(SPEND, [0], batch, name)


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="'mse' is none of.*'squared'"):
        loss_of(CLICK, [0], make_batch({"click": [1]}), "mse")


def test_positive_weight_by_hand():
    """At odds of one both parts are log 2; the positive one counts fivefold."""
    batch = make_batch({"click": [1, 0, NAN]})
    loss = loss_of(CLICK, [0, 0, 0], batch, "log", positive=5.0)
    np.testing.assert_allclose(
        loss.values, [5 * np.log(2), np.log(2), 0], rtol=1e-6, atol=0
    )
    assert int(loss.count) == 2


def tf_weighted_cross_entropy(labels, logits, pos_weight):
    """The formula of tf.nn.weighted_cross_entropy_with_logits, as its page has it."""
    z, x, q = (np.asarray(part, np.float64) for part in (labels, logits, pos_weight))
    weight = 1 + (q - 1) * z
    return (1 - z) * x + weight * (np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0))


@few
@given(
    hnp.arrays(np.float32, 6, elements=st.floats(-80, 80, width=32)),
    hnp.arrays(np.float32, 6, elements=st.floats(0, 1, width=32)),
    st.floats(0.01, 5000),
)
def test_positive_weight_is_that_of_tensorflow(logits, labels, weight):
    batch = make_batch({"click": labels})
    found = loss_of(CLICK, logits, batch, "log", positive=weight)
    expected = tf_weighted_cross_entropy(labels, logits, weight)
    np.testing.assert_allclose(found.values, expected, rtol=2e-5, atol=1e-5)


def test_weighted_loss_is_least_where_the_odds_are_weighted_too():
    """Of 1 positive in 4 with weight 5: odds 5 / 3, and 1 / 3 once recalibrated."""
    batch = make_batch({"click": [1, 0, 0, 0]})

    @jax.jit
    def slope(logit):
        total = lambda x: loss_of(CLICK, jnp.full(4, x), batch, "log", positive=5.0)
        return jax.grad(lambda x: total(x).total)(logit)

    assert abs(slope(jnp.log(5 / 3))) < 1e-6
    assert slope(jnp.log(1 / 3)) < -0.5


def test_weight_of_a_row_and_of_its_positive_multiply():
    batch = make_batch({"click": [1, 0]})
    both = loss_of(CLICK, [1, 1], batch, "log", jnp.array([3.0, 2.0]), positive=4.0)
    expected = tf_weighted_cross_entropy([1, 0], [1, 1], 4.0) * [3, 2]
    np.testing.assert_allclose(both.values, expected, rtol=1e-6)


def test_positive_weight_without_odds_to_recalibrate_is_refused():
    batch = make_batch({"click": [1, 0]})
    with pytest.raises(
        ValueError, match="weight of 4.0 .*needs the loss 'log' or 'focal'.*squared"
    ):
        loss_of(CLICK, [0, 0], batch, "squared", positive=4.0)


# What a loss learns, and the odds behind it


POSTERIORS = [1e-6, 1e-3, 0.05, 0.25, 0.4, 0.5, 0.6, 0.9, 0.999]


def least(rate, weight=1.0):
    """The logit where the expected focal loss is least: by search, in float64."""
    one = lambda x: np.exp(-2 * np.logaddexp(0, x)) * np.logaddexp(0, -x)
    loss = lambda x: 0.75 * weight * rate * one(x) + 0.25 * (1 - rate) * one(-x)
    found = optimize.minimize_scalar(loss, (-1, 1), tol=1e-12)
    return found.x


@pytest.mark.parametrize("rate", POSTERIORS)
def test_the_least_focal_loss_tells_the_posterior(rate):
    found = losses.odds_learned("focal", jnp.float32(least(rate)))
    np.testing.assert_allclose(sigmoid(found), rate, rtol=1e-4)
    assert abs(sigmoid(least(rate)) - rate) > 1e-3 or rate < 1e-3 or rate > 0.99


@pytest.mark.parametrize("weight", [0.2, 30.0])
def test_a_weight_of_positives_multiplies_the_odds_that_focal_loss_learns(weight):
    found = losses.odds_learned("focal", jnp.float32(least(0.1, weight)))
    np.testing.assert_allclose(sigmoid(found - np.log(weight)), 0.1, rtol=1e-4)


@pytest.mark.parametrize("positive", [1.0, 7.0])
@pytest.mark.parametrize("name", ["log", "focal"])
def test_slope_of_a_loss_is_zero_where_its_odds_are_those_of_the_labels(name, positive):
    """Soft labels count by their mean, so the correction is as exact for them."""
    labels = [1, 0, 0.25, 0.35]
    batch = make_batch({"click": np.ones(4), "watch": labels})

    @jax.jit
    def slope(logit):
        one = lambda x: loss_of(WATCH, jnp.full(4, x), batch, name, positive=positive)
        return jax.grad(lambda x: one(x).mean)(logit)

    root = optimize.brentq(lambda x: float(slope(jnp.float32(x))), -9, 9)
    learned = losses.odds_learned(name, jnp.float32(root)) - np.log(positive)
    np.testing.assert_allclose(sigmoid(learned), np.mean(labels), rtol=1e-4)


def test_without_focus_only_the_weights_of_the_classes_are_taken_off(monkeypatch):
    logits = jnp.linspace(-90, 90, 181)
    np.testing.assert_allclose(losses.odds_learned("log", logits), logits)
    monkeypatch.setattr(losses, "GAMMA", 0.0)
    found = losses.odds_learned("focal", logits)
    np.testing.assert_allclose(found, logits - np.log(3), rtol=1e-6)


def test_odds_learned_rise_with_the_logit_and_stay_finite_with_their_slopes():
    logits = jnp.concatenate([jnp.linspace(-120, 120, 4801), jnp.array([-1e4, 1e4])])
    function = jax.vmap(jax.value_and_grad(lambda x: losses.odds_learned("focal", x)))
    for found, slopes in (function(logits), jax.jit(function)(logits)):
        assert np.isfinite(found).all() and (np.diff(found[:-2]) > 0).all()
        x = np.asarray(logits, np.float64)[:-2]
        before, after = oracle_odds(x - 1e-4), oracle_odds(x + 1e-4)
        np.testing.assert_allclose(slopes[:-2], (after - before) / 2e-4, rtol=1e-4)
        np.testing.assert_allclose(found[:-2], oracle_odds(x), rtol=1e-5, atol=1e-5)


def oracle_odds(x):
    ratio = lambda x: np.exp(np.log(np.logaddexp(0, x)) - x)
    bend = np.log1p(2 * ratio(x)) - np.log1p(2 * ratio(-x))
    return 3 * x + bend - np.log(3)
