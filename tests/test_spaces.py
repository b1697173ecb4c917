"""Joint tasks: their labels, the log-odds of a product, and who needs a funnel."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxmtl import spaces
from jaxmtl.types import Field, Schema, Task, Vocabulary

NAN = float("nan")
few = settings(max_examples=50, deadline=None)


def make_schema(*tasks: Task) -> Schema:
    return Schema(
        name="funnel",
        fields=(Field("user", "users"), Field("item", "users")),
        vocabularies=(Vocabulary("users", 3),),
        tasks=tasks,
        ctr=tasks[0].name,
        cvr=tasks[-1].name,
        user="user",
        item="item",
    )


VISIT, CONVERSION = Task("visit"), Task("conversion", space="visit")
SPEND = Task("spend", "continuous", space="conversion", high=499.0, metric="mse")
SHARE = Task("share", space="watch")
SHOP = make_schema(VISIT, CONVERSION, SPEND)


def to_labels(rows, array=np.asarray):
    names, columns = ("visit", "conversion", "spend"), np.array(rows, np.float32).T
    return {n: array(column) for n, column in zip(names, columns, strict=True)}


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_joint_labels_by_hand(array):
    """Visit, conversion, spend, and what they make of conversion and spend."""
    rows = [
        (1, 1, 30, 1, 30),
        (1, 1, NAN, 1, NAN),
        (1, 0, 0, 0, 0),
        (1, 0, NAN, 0, 0),
        (1, NAN, NAN, NAN, NAN),
        (1, NAN, 30, NAN, NAN),
        (0, 0, 0, 0, 0),
        (0, NAN, NAN, 0, 0),
        (0, 1, 30, 0, 0),  # a label off its space says nothing
        (NAN, 1, 30, NAN, NAN),
        (NAN, 0, 0, NAN, NAN),
    ]
    labels = to_labels([row[:3] for row in rows], array)
    found = spaces.with_joint(SHOP, labels)
    assert set(found) == set(labels) | {"joint.conversion", "joint.spend"}
    for column, name in ((3, "joint.conversion"), (4, "joint.spend")):
        expected = np.array([row[column] for row in rows], np.float32)
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
        assert found[name].dtype == np.float32
        assert isinstance(found[name], type(labels["visit"]))
    assert all(found[name] is column for name, column in labels.items())


label = st.sampled_from([0.0, 1.0, NAN])
rows_of_labels = st.lists(st.tuples(label, label, label), min_size=1, max_size=20)


@few
@given(rows_of_labels)
def test_joint_labels_agree_with_a_walk_down_the_funnel(rows):
    def walk(*labels):
        for above in labels[:-1]:
            if not above > 0:
                return 0 * above  # nothing follows, or nobody knows
        return labels[-1]

    found = spaces.with_joint(SHOP, to_labels(rows))
    for name, depth in (("conversion", 2), ("spend", 3)):
        expected = [walk(*row[:depth]) for row in rows]
        np.testing.assert_array_equal(found["joint." + name], expected)


def test_joint_labels_are_the_same_compiled():
    rows = [(1, 1, 30), (0, NAN, NAN), (1, NAN, 3), (NAN, 1, 1)]
    compiled = jax.jit(lambda labels: spaces.with_joint(SHOP, labels))
    found = compiled(to_labels(rows, jnp.asarray))
    expected = spaces.with_joint(SHOP, to_labels(rows))
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column)


def test_a_log_without_nested_tasks_has_no_joint_labels():
    labels = {"visit": np.ones(3, np.float32)}
    assert spaces.with_joint(make_schema(VISIT), labels).keys() == labels.keys()


def test_a_joint_task_is_judged_on_every_impression():
    joint = spaces.joint_task(SPEND)
    assert joint == dataclasses.replace(SPEND, name="joint.spend", space="impression")
    assert spaces.is_nested(SPEND) and not spaces.is_nested(joint)
    labels = spaces.with_joint(SHOP, to_labels([(0, NAN, NAN), (1, 1, NAN)]))
    np.testing.assert_array_equal(joint.inside(labels), [True, False])


def oracle(logits):
    """log(p / (1 − p)) in float64, where neither logarithm loses a digit."""
    logits = np.asarray(logits, np.float64)
    log_p = -np.sum(np.logaddexp(0, -logits), axis=0)
    # 1 − Π p_i = Σ_i (1 − p_i) Π_{j<i} p_j: no difference of near numbers.
    before, parts = 0.0, []
    for logit in logits:
        parts.append(before - np.logaddexp(0, logit))
        before = before - np.logaddexp(0, -logit)
    return log_p - np.logaddexp.reduce(parts)


def test_product_of_two_halves_is_a_quarter():
    found = spaces.product_logit([jnp.zeros(1), jnp.zeros(1)])
    np.testing.assert_allclose(found, [np.log(1 / 3)], rtol=1e-6)


def test_product_of_one_is_itself_to_the_bit():
    logit = jnp.array([-300.0, 0.1, 300.0])
    assert spaces.product_logit([logit]) is logit


@few
@given(
    st.integers(2, 4).flatmap(
        lambda n: hnp.arrays(np.float32, (n, 5), elements=st.floats(-100, 80, width=32))
    )
)
@example(np.array([[-100], [-100]], np.float32))
@example(np.array([[80], [-100]], np.float32))
@example(np.array([[80], [80]], np.float32))
@example(np.array([[20], [0]], np.float32))
@example(np.array([[9], [9]], np.float32))
def test_product_equals_the_oracle_in_float64(logits):
    found = spaces.product_logit(list(jnp.asarray(logits)))
    np.testing.assert_allclose(found, oracle(logits), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("a", [-100.0, -30.0, 0.0, 30.0, 100.0])
@pytest.mark.parametrize("b", [-100.0, 100.0])
def test_logit_and_slopes_stay_finite_where_probabilities_are_0_or_1(a, b):
    total = lambda x, y: jnp.sum(spaces.product_logit([x, y]))
    inputs = jnp.array([a]), jnp.array([b])
    for compile_or_not in (lambda f: f, jax.jit):
        differentiate = compile_or_not(jax.value_and_grad(total, argnums=(0, 1)))
        value, slopes = differentiate(*inputs)
        assert np.isfinite(value)
        assert all(np.isfinite(s) and 0 <= s <= 1 + 1e-6 for [s] in slopes)
    if max(a, b) < 80:
        np.testing.assert_allclose(value, oracle([[a], [b]]), rtol=1e-6)


@few
@given(st.floats(-60, 30), st.floats(-60, 30))
def test_slope_is_that_of_the_oracle(a, b):
    """d logit(pq) / d logit(p) = (1 − p) / (1 − pq)."""
    slope = jax.grad(lambda x: spaces.product_logit([x, jnp.float32(b)]))
    expected = np.exp(-np.logaddexp(0, a) + np.logaddexp(0, oracle([[a], [b]])[0]))
    np.testing.assert_allclose(slope(jnp.float32(a)), expected, rtol=1e-4, atol=1e-30)


def test_eager_product_equals_the_compiled_one():
    rng = np.random.default_rng(0)
    logits = [jnp.asarray(rng.normal(scale=20, size=50), jnp.float32) for _ in "abc"]
    compiled = jax.jit(spaces.product_logit)(logits)
    np.testing.assert_allclose(spaces.product_logit(logits), compiled, rtol=1e-5)


@pytest.mark.parametrize(
    ("tasks", "names", "message"),
    [
        (
            (VISIT, Task("like")),
            ("visit", "like"),
            r"ESMM needs a declared funnel; of the tasks \['visit', 'like'\] of schema"
            " funnel none lives in another's space",
        ),
        ((VISIT, CONVERSION), ("visit",), "none lives in another's space"),
        (
            (VISIT, CONVERSION),
            ("conversion",),
            "task 'conversion' of schema funnel lives in the space 'visit', which is"
            " not trained",
        ),
        (
            (VISIT, CONVERSION, SPEND),
            ("visit", "conversion", "spend"),
            r"labels in \[0, 1\]; task 'spend' of schema funnel has labels up to 499",
        ),
        (
            (VISIT, Task("watch", "continuous", "visit", metric="mse"), SHARE),
            ("visit", "watch", "share"),
            "'share' of schema funnel lives in the space of 'watch', whose label is"
            " continuous",
        ),
    ],
)
def test_tasks_that_are_no_whole_funnel_are_refused_by_name(tasks, names, message):
    with pytest.raises(ValueError, match=message):
        spaces.check_funnel("ESMM", make_schema(*tasks), names)


def test_whole_funnels_pass_with_other_tasks_beside_them():
    schema = make_schema(VISIT, Task("like"), CONVERSION)
    spaces.check_funnel("ESMM", schema, ("visit", "like", "conversion"))
