"""Labels in disguise are found; honest features, few rows and ids are let pass."""

import jax
import numpy as np
import pytest
from conftest import make_rows, make_schema
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from jaxmtl.data import leakage
from jaxmtl.data.leakage import (
    Finding,
    LeakedLabel,
    check,
    concordance,
    refuse_leaks,
    verdict,
)
from jaxmtl.data.sources import video_feed
from jaxmtl.data.sources.video_feed.world import FeedConfig
from jaxmtl.types import PADDING, Field, Rows, Schema, Task, Vocabulary

N = 4000


def slow_concordance(labels, scores) -> float:
    """By all pairs of rows."""
    pairs = [
        np.sign(scores[i] - scores[j])
        for i in range(len(labels))
        for j in range(len(labels))
        if labels[i] > labels[j]
    ]
    return 0.5 + float(np.mean(pairs)) / 2 if pairs else 0.5


def test_concordance_by_hand():
    # Of the pairs (2, 0), (2, 1), (1, 0) the scores order one, tie one, turn one.
    assert concordance(np.array([0, 1, 2]), np.array([5, 3, 5])) == pytest.approx(0.5)
    assert concordance(np.array([0, 1, 2]), np.array([3, 3, 5])) == pytest.approx(5 / 6)
    assert concordance(np.array([0, 0, 1]), np.array([1, 2, 3])) == pytest.approx(1)
    assert concordance(np.array([1, 1]), np.array([1, 2])) == 0.5
    assert concordance(np.array([1, 2]), np.array([3, 3])) == 0.5
    assert concordance(np.zeros(0), np.zeros(0)) == 0.5


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=25)
)
def test_concordance_agrees_with_all_pairs_and_with_the_auc(table):
    labels, scores = (np.array(c, float) for c in zip(*table, strict=True))
    expected = slow_concordance(labels, scores)
    assert concordance(labels, scores) == pytest.approx(expected)
    assert concordance(labels, -scores) == pytest.approx(1 - expected)
    assert concordance(labels, np.exp(scores)) == pytest.approx(expected)
    binary = labels > 1
    if 0 < binary.sum() < binary.size:
        assert concordance(binary, scores) == pytest.approx(
            roc_auc_score(binary, scores)
        )


def test_ids_move_the_odds_as_counted_by_hand():
    ids = np.array([[1, 2], [1, PADDING], [2, PADDING], [PADDING, PADDING], [1, 9]])
    label, fit = np.array([1.0, 1, 0, 0, 1]), np.array([True, True, True, True, False])
    # Prior 1/2; with one row of it, id 1 has 2.5 of 3, id 2 1.5 of 3, none .5 of 2.
    one, none = np.log(2.5 / 0.5), np.log(0.5 / 1.5)
    expected = [one, one, 0, none, one]
    np.testing.assert_allclose(leakage._odds(ids, label, fit), expected, atol=1e-12)
    assert not leakage._odds(ids, np.ones(5), fit).any()


def test_a_verdict_needs_a_score_and_rows():
    assert verdict(1.0, 135) == "leak"
    assert verdict(1.0, 134) == "suspicious"
    assert verdict(1.0, 66) == "suspicious"
    assert verdict(1.0, 65) is None
    assert verdict(0.996, 1000) == "leak"
    assert verdict(0.994, 10**6) == "suspicious"
    assert verdict(0.949, 10**6) is None
    assert verdict(0.2, 10**6) is None


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.integers(0, 5000), st.integers(0, 5000))
def test_more_rows_never_weaken_a_verdict(score, few, more):
    order = [None, "suspicious", "leak"]
    weaker, stronger = (verdict(score, min(few, more)), verdict(score, max(few, more)))
    assert order.index(weaker) <= order.index(stronger)


def make_log(n: int = N, seed: int = 0, **features) -> tuple[Schema, Rows]:
    """A click on three rows in ten, an order on some, a spend on those; no signal.

    Args:
      features: name -> function of (rng, labels), or an array: ids if they are
        integers [n] or [n, slots], else a numeric column.
    """
    rng = np.random.default_rng(seed)
    click = rng.random(n) < 0.3
    order = click & (rng.random(n) < 0.4)
    spend = np.where(order, 10 * np.clip(np.ceil(rng.gamma(2, 3, n)), 1, 10), np.nan)
    labels = {"click": click, "order": order, "spend": spend}
    labels = {name: column.astype(np.float32) for name, column in labels.items()}
    columns = {"user": rng.integers(1, 50, n), "item": rng.integers(1, 30, n)}
    columns |= {
        name: np.asarray(make(rng, labels) if callable(make) else make)
        for name, make in features.items()
    }
    is_id = {name: c.dtype.kind == "i" for name, c in columns.items()}
    ids = {name: c.reshape(n, -1) for name, c in columns.items() if is_id[name]}
    numeric = {name: c for name, c in columns.items() if not is_id[name]}
    schema = Schema(
        name="planted",
        fields=tuple(Field(name, name, c.shape[1]) for name, c in ids.items()),
        vocabularies=tuple(Vocabulary(m, int(c.max()) + 1) for m, c in ids.items()),
        tasks=(
            Task("click"),
            Task("order", space="click"),
            Task("spend", "continuous", space="order", high=1e4, metric="mse"),
        ),
        ctr="click",
        cvr="order",
        user="user",
        item="item",
        numeric=tuple(numeric),
    )
    rows = Rows(
        ids=np.concatenate([*ids.values()], axis=1).astype(np.int32),
        numeric=np.reshape([*numeric.values()], (len(numeric), n)).T.astype(np.float32),
        labels=labels,
        extras={},
        groups={"user": ids["user"][:, 0], "item": ids["item"][:, 0]},
    )
    return schema, rows


def at_random(rng, known, otherwise, is_known):
    return np.where(is_known, known, otherwise)


def tags_of(rng, sold) -> np.ndarray:
    """Up to three of six tags, and a seventh on what was sold."""
    tags = rng.integers(1, 7, (sold.size, 4))
    tags[:, 3] = PADDING
    tags[sold, rng.integers(0, 4, sold.sum())] = 7
    return tags


PLANTED = {
    "the joint label, as a number": ("order", lambda rng, y: y["order"]),
    "turned round": ("order", lambda rng, y: 1 - y["order"]),
    "turned round, no value twice": (
        "click",
        lambda rng, y: -y["click"] - 0.9 * rng.random(N),
    ),
    "as an id": ("order", lambda rng, y: 1 + y["order"].astype(int)),
    "with a record in a thousand wrong": (
        "click",
        lambda rng, y: np.abs(y["click"] - (rng.random(N) < 1e-3)),
    ),
    "hours from click to order, 0 without one": (
        "order",
        lambda rng, y: y["order"] * (rng.random(N) - 0.7),
    ),
    "amounts, the mean where there is none": (
        "order",
        lambda rng, y: np.where(y["order"] > 0, rng.normal(size=N), 0.0),
    ),
    "order numbers": (
        "order",
        lambda rng, y: np.where(y["order"] > 0, 2 + np.arange(N), 1),
    ),
    "codes without order": (
        "click",
        lambda rng, y: rng.choice([0.0, 2.0, 5.0], N) + y["click"] * 1.0,
    ),
    "a tag on what was sold": ("order", lambda rng, y: tags_of(rng, y["order"] > 0)),
    "items bought, none without an order": (
        "order",
        lambda rng, y: np.where(
            y["order"][:, None] > 0, 1 + np.arange(2 * N).reshape(N, 2), PADDING
        ),
    ),
    "the amount itself": ("spend", lambda rng, y: np.nan_to_num(y["spend"])),
    "the amount in another currency": (
        "spend",
        lambda rng, y: np.log1p(-1.1 * np.nan_to_num(y["spend"]) + 2000),
    ),
    "the amount as an id": (
        "spend",
        lambda rng, y: 1 + (np.nan_to_num(y["spend"]) // 10).astype(int),
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_label_in_disguise_is_found(kind):
    task, make = PLANTED[kind]
    found = check(*make_log(disguise=make))
    assert {finding.feature for finding in found} == {"disguise"}
    worst = next(finding for finding in found if finding.task == task)
    assert worst.verdict == "leak", worst
    assert worst.score >= leakage.LEAK


def test_two_leaks_are_two_findings_the_worse_one_first():
    flip = lambda rng, y: np.abs(y["click"] - (rng.random(N) < 2e-3))
    schema, rows = make_log(flipped=flip, label=lambda rng, y: y["click"])
    found = [f for f in check(schema, rows) if f.task == "click"]
    assert [f.feature for f in found] == ["label", "flipped"]
    assert found[0] == Finding("click", "label", pytest.approx(1), "leak")


def test_a_nearly_perfect_feature_is_suspicious():
    noisy = lambda rng, y: y["click"] + rng.normal(scale=0.4, size=N)
    (found,) = check(*make_log(noisy=noisy))
    assert (found.feature, found.verdict) == ("noisy", "suspicious")
    assert 0.95 <= found.score < 0.97


HONEST = {
    "a strong number": lambda rng, y: y["click"] + rng.normal(scale=0.7, size=N),
    "a strong id": lambda rng, y: 1 + (y["click"] > rng.random(N) * 1.2).astype(int),
    "an id a row": lambda rng, y: 1 + np.arange(N),
    "a number a row": lambda rng, y: rng.random(N),
    "lists of ids of their own": lambda rng, y: 1 + np.arange(3 * N).reshape(N, 3),
    "empty": lambda rng, y: np.full((N, 3), PADDING),
    "constant": lambda rng, y: np.ones(N),
    "the id of a few": lambda rng, y: 1 + rng.integers(0, N // 2, N),
}


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_feature_is_let_pass(kind):
    for seed in range(3):
        assert check(*make_log(seed=seed, feature=HONEST[kind])) == []


@pytest.mark.parametrize("n", [0, 1, 2, 20, 60])
def test_few_rows_say_nothing(n):
    label = lambda rng, y: y["click"]
    for seed in range(5):
        schema, rows = make_log(n, seed, as_number=label) if n else make_log(2, seed)
        rows = jax.tree.map(lambda column: column[:n], rows)
        assert check(schema, rows) == []


def test_the_simulated_feed_is_clean():
    log = video_feed.read(FeedConfig(users=200, videos=200, impressions=20_000))
    blocks = list(log.splits["train"])
    rows = jax.tree.map(lambda *columns: np.concatenate(columns), *blocks)
    assert refuse_leaks(log.schema, rows) == []
    assert refuse_leaks(make_schema(), make_rows(2000, seed=0)) == []


def test_missing_labels_are_left_out():
    def only_where_known(rng, y):
        return np.where(np.arange(N) % 2, y["click"], rng.random(N))

    schema, rows = make_log(feature=only_where_known)
    assert check(schema, rows) == []
    rows.labels["click"][::2] = np.nan
    assert {f.task for f in check(schema, rows)} == {"click"}


def test_a_sample_keeps_the_rare_class():
    n = 60_000
    schema, rows = make_log(n, label=lambda rng, y: y["click"])
    rng = np.random.default_rng(0)
    rows.labels["click"] *= rng.random(n) < 0.02
    rows.numeric[:, 0] = rows.labels["click"]
    task = schema.task("click")
    drawn = leakage._draw(task, rows, 1000, np.random.default_rng(0))
    assert drawn.size == 1000 == np.unique(drawn).size
    assert rows.labels["click"][drawn].sum() == min(500, rows.labels["click"].sum())
    first = check(schema, rows, sample=1000)
    assert ("click", "label") in {(f.task, f.feature) for f in first}
    assert first == check(schema, rows, sample=1000)


def test_a_leak_is_refused_by_name_with_what_to_do():
    schema, rows = make_log(bought=lambda rng, y: y["order"])
    with pytest.raises(LeakedLabel) as error:
        refuse_leaks(schema, rows)
    message = str(error.value)
    assert "feature 'bought' alone predicts 'order' with a score of 1.0000" in message
    assert message.endswith("--data.allow-leaks bought")
    assert isinstance(error.value, ValueError)


def test_a_leak_that_is_allowed_and_a_suspicion_are_told():
    noisy = lambda rng, y: y["click"] + rng.normal(scale=0.4, size=N)
    schema, rows = make_log(bought=lambda rng, y: y["order"], noisy=noisy)
    with pytest.raises(LeakedLabel):
        refuse_leaks(schema, rows, allow=["noisy"])
    lines = refuse_leaks(schema, rows, allow=["bought"])
    assert len(lines) == 2
    assert "'bought' alone predicts 'order'" in lines[0] and ": allowed" in lines[0]
    assert "'noisy' alone predicts 'click'" in lines[1] and ": suspicious" in lines[1]


def test_allowing_what_is_no_feature_is_refused():
    with pytest.raises(ValueError, match=r"allow-leaks names \['bougt'\].*'user'"):
        refuse_leaks(*make_log(), allow=["bougt"])
