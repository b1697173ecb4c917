import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from experiments.analysis import statistics

few = settings(max_examples=40, deadline=None)
floats = st.floats(-100, 100, allow_subnormal=False)
p_values = st.lists(st.none() | st.floats(0, 1), max_size=12)


def test_interval_by_hand():
    # sd = 1, t(.975, 2) = 4.30265, sqrt(3) = 1.73205.
    mean, low, high = statistics.mean_interval([1, 2, 3])
    assert mean == 2
    assert (low, high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)


@few
@given(st.lists(floats, min_size=2, max_size=8))
def test_interval_equals_scipys(values):
    assume(np.std(values) > 1e-6)
    found = statistics.mean_interval(values)
    oracle = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found[1:] == pytest.approx(tuple(oracle))


def test_one_seed_has_a_mean_and_no_interval():
    assert statistics.mean_interval([0.7]) == (0.7, None, None)
    assert statistics.paired_t([0.7], [0.5]) == (pytest.approx(0.2), None, None, None)


@pytest.mark.parametrize("values", [[], [np.nan], [1.0, np.inf]])
def test_interval_refuses_nothing_and_what_is_not_finite(values):
    with pytest.raises(ValueError, match="one or more finite"):
        statistics.mean_interval(values)


@few
@given(st.lists(st.tuples(floats, floats), min_size=2, max_size=8))
def test_paired_t_equals_scipys(pairs):
    a, b = np.array(pairs).T
    assume(np.std(a - b) > 1e-6)
    found = statistics.paired_t(a, b)
    oracle = scipy.stats.ttest_rel(a, b)
    assert found.p == pytest.approx(oracle.pvalue, abs=1e-9)
    assert found[1:3] == pytest.approx(tuple(oracle.confidence_interval(0.95)))
    assert found.difference == pytest.approx(np.mean(a - b), abs=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_differences_without_spread_have_no_p(shift):
    a = np.array([0.3, 0.7, 0.9])
    found = statistics.paired_t(a + shift, a)
    assert found.p is None
    assert found.difference == pytest.approx(shift)


def test_paired_t_refuses_rows_of_different_seeds():
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\).*same\s+seeds"):
        statistics.paired_t([1, 2], [1, 2, 3])


def test_holm_by_hand():
    # Sorted .01, .03, .04 times 3, 2, 1 = .03, .06, .04; the last may not fall.
    found = statistics.holm([0.04, None, 0.01, 0.03])
    assert found == [pytest.approx(0.06), None, *map(pytest.approx, (0.03, 0.06))]
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]
    assert statistics.holm([]) == []


@few
@given(p_values)
def test_holm_keeps_order_and_never_lowers_a_p(values):
    adjusted = statistics.holm(values)
    pairs = [(p, q) for p, q in zip(values, adjusted, strict=True) if p is not None]
    assert [q for p, q in sorted(pairs)] == sorted(q for _, q in pairs)
    assert all(p <= q <= 1 for p, q in pairs)
    assert [q is None for q in adjusted] == [p is None for p in values]


@few
@given(p_values)
def test_holm_ignores_what_was_not_tested(values):
    tested = [p for p in values if p is not None]
    assert statistics.holm(tested) == [
        q for q in statistics.holm(values) if q is not None
    ]


def test_tests_alike_in_their_keys_are_one_family():
    tests = [
        {"p": 0.01, "metric": "a", "deciding": True},
        {"p": 0.02, "metric": "b", "deciding": True},
        {"p": 0.03, "metric": "a", "deciding": False},
        {"p": None, "metric": "a", "deciding": True},
    ]
    found = {}
    for keys in ((), ("metric",), ("metric", "deciding")):
        statistics.correct(tests, *keys)
        found[keys] = [test["p_holm"] for test in tests]
    assert found[()] == [0.03, 0.04, 0.04, None]
    assert found["metric",] == [0.02, 0.02, 0.03, None]
    assert found["metric", "deciding"] == [0.01, 0.02, 0.03, None]


@pytest.mark.parametrize("level", [0.05, 0.05 / 13])
@pytest.mark.parametrize("shift", [0.0, 1.0, 4.0, 30.0])
def test_power_of_three_seeds_is_that_on_paper(shift, level):
    """Of 2 degrees of freedom, the sum of squares is exponential.

    t = (z + d) / s with s² of Exp(1) exceeds x = c √2 / √(1 - c²), c = 1 - level, with
    the chance E[1 - exp(-(z + d)² / x²); z > -d], whose square can be completed.
    """
    normal, c = scipy.stats.norm.cdf, 1 - level
    paper = normal(shift) - c * np.exp(-(shift**2) * (1 - c**2) / 2) * normal(c * shift)
    found = statistics.power(-shift * 0.2 / np.sqrt(3), 0.2, 3, level)
    assert found == pytest.approx(paper, abs=1e-9)


def test_power_is_how_often_simulated_seeds_decide_for_the_effect():
    random = np.random.default_rng(0)
    differences = random.normal(0.003, 0.002, (20_000, 5))
    test = scipy.stats.ttest_1samp(differences, 0, axis=1)
    decided = np.mean((test.pvalue < 0.05 / 7) & (test.statistic > 0))
    found = statistics.power(0.003, 0.002, 5, 0.05 / 7)
    assert found == pytest.approx(decided, abs=0.01) and 0.2 < found < 0.8


@few
@given(st.floats(1e-4, 3), st.floats(1e-4, 1), st.integers(2, 20))
def test_power_grows_with_effect_seeds_and_level(effect, deviation, seeds):
    least = statistics.power(effect, deviation, seeds, 0.01)
    assert 0 <= least <= 1
    for more in ((2 * effect, seeds, 0.01), (effect, 2 * seeds, 0.01)):
        assert statistics.power(more[0], deviation, *more[1:]) >= least - 1e-9
    assert statistics.power(effect, deviation, seeds, 0.05) >= least - 1e-9


def test_there_is_no_power_without_an_effect_or_a_spread():
    assert statistics.power(None, 0.1, 5, 0.05) is None
    assert statistics.power(0.1, None, 5, 0.05) is None
    assert statistics.power(0.1, 0.0, 5, 0.05) is None
    assert statistics.power(0.1, 0.2, 1, 0.05) is None


def test_resamples_draw_as_many_users_as_there_are_the_same_for_the_same_seed():
    users = np.array([30, 10, 30, 20, 10])
    index, counts = statistics.resample_users(users, 50, seed=3)
    assert list(index) == [2, 0, 2, 1, 0]
    assert counts.shape == (50, 3)
    assert (counts.sum(axis=1) == 3).all()
    np.testing.assert_array_equal(counts, statistics.resample_users(users, 50, 3)[1])
    assert (counts != statistics.resample_users(users, 50, 4)[1]).any()


def test_resampled_users_are_drawn_evenly():
    _, counts = statistics.resample_users(np.arange(20), 2000, seed=0)
    # The mean of a user's count has standard error sqrt(.95 / 2000) = .022.
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(counts.var(), 0.95, atol=0.05)


@st.composite
def resampled_rows(draw):
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 4)),
            min_size=2,
            max_size=30,
        )
    )
    labels, scores, users = (np.array(column) for column in zip(*rows, strict=True))
    return (labels, scores / 5, *statistics.resample_users(users, 5, seed=1))


def test_an_interval_that_begins_at_zero_has_its_ends():
    assert statistics.mean_interval([0.0, 0.0]).ends == [0.0, 0.0]
    assert statistics.mean_interval([0.5]).ends is None
    assert statistics.paired_t([1.0, 1.0], [1.0, 1.0]).ends == [0.0, 0.0]
    assert statistics.paired_t([1.0], [0.5]).ends is None


@few
@given(resampled_rows())
def test_bootstrap_auc_equals_scikit_learns_weighted_auc(case):
    labels, scores, index, counts = case
    found = statistics.bootstrap_auc(labels, scores, index, counts)
    for value, drawn in zip(found, counts, strict=True):
        weight = drawn[index]
        if len(set(labels[weight > 0])) == 2:
            oracle = sklearn.metrics.roc_auc_score(labels, scores, sample_weight=weight)
            assert value == pytest.approx(oracle, abs=1e-12)
        else:
            assert np.isnan(value)


@few
@given(resampled_rows())
def test_bootstrap_mse_equals_the_mse_of_the_rows_written_out(case):
    labels, scores, index, counts = case
    found = statistics.bootstrap_mse(labels, scores, index, counts)
    for value, drawn in zip(found, counts, strict=True):
        weight = drawn[index]
        if weight.any():
            y, p = np.repeat(labels, weight), np.repeat(scores, weight)
            assert value == pytest.approx(np.mean((y - p) ** 2), abs=1e-12)
        else:
            assert np.isnan(value)


def test_counts_take_a_byte_and_products_as_much_memory_as_is_said(monkeypatch):
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 2, 3000), random.random(3000).round(3)
    index, counts = statistics.resample_users(random.integers(0, 400, 3000), 40)
    assert counts.dtype == np.uint8
    for measure in (statistics.bootstrap_auc, statistics.bootstrap_mse):
        with monkeypatch.context() as patch:
            whole = measure(labels, scores, index, counts)
            patch.setattr(statistics, "CELLS", 7 * 400)
            patch.setattr(statistics, "BLOCK", 11)
            parts = measure(labels, scores, index, counts)
            np.testing.assert_allclose(parts, whole, rtol=1e-14)
            wide = measure(labels, scores, index, counts.astype(np.int64))
            np.testing.assert_array_equal(parts, wide)


def test_fifty_draws_lie_beyond_either_end_of_an_interval():
    index, counts = statistics.resample_users(np.arange(30))
    beyond = len(counts) * (1 - statistics.LEVEL) / 2
    assert len(counts) == 2000 and beyond == pytest.approx(50)


def test_users_beyond_a_number_are_drawn_in_clusters_as_wide_an_interval(monkeypatch):
    """Two million users would take 4 GB of counts."""
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(3000), 2)
    labels = random.random(6000)
    measured = {}
    for most in (3000, 1000):
        monkeypatch.setattr(statistics, "CLUSTERS", most)
        index, counts = statistics.resample_users(users)
        assert counts.shape == (2000, most)
        assert (index[::2] == index[1::2]).all()  # a user's rows stay together
        assert set(np.bincount(index)) == {6000 // most}  # clusters are as large
        drawn = statistics.bootstrap_mse(labels, np.zeros(6000), index, counts)
        low, high = statistics.percentile_interval(drawn)
        measured[most] = high - low
    assert measured[1000] == pytest.approx(measured[3000], rel=0.1)


def test_resample_that_draws_every_user_once_is_the_metric_itself():
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.4, 0.4, 0.1])
    once = np.ones((1, 4), np.int32)
    assert statistics.bootstrap_auc(labels, scores, np.arange(4), once) == [3.5 / 4]
    mse = statistics.bootstrap_mse(labels, scores, np.arange(4), once)
    assert mse == pytest.approx(np.mean((labels - scores) ** 2))


def test_bootstrap_of_seeds_is_the_mean_of_each_seeds():
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 2, 60), random.random((3, 60))
    index, counts = statistics.resample_users(random.integers(0, 9, 60), 7)
    for metric in ("auc", "mse"):
        by_seed = [
            statistics.bootstrap_users(metric, labels, p[None], index, counts)
            for p in predictions
        ]
        found = statistics.bootstrap_users(metric, labels, predictions, index, counts)
        np.testing.assert_allclose(found, np.mean(by_seed, axis=0))


def test_paired_interval_is_far_narrower_than_that_of_unpaired_draws():
    random = np.random.default_rng(1)
    users = np.repeat(np.arange(60), 10)
    # What a user makes easy or hard is common to both rows, and cancels.
    hard = np.repeat(random.random(60), 10)
    labels = (random.random(600) < 0.5).astype(float)
    good = np.clip(labels + hard * random.choice([-1, 1], 600), -1, 2)
    worse = good + 0.05 * (good - labels)

    def mse(predictions, seed):
        index, counts = statistics.resample_users(users, 300, seed)
        return statistics.bootstrap_users("mse", labels, [predictions], index, counts)

    def width(differences):
        low, high = statistics.percentile_interval(differences)
        return high - low

    assert width(mse(worse, 0) - mse(good, 0)) < 0.2 * width(
        mse(worse, 0) - mse(good, 1)
    )
    assert statistics.percentile_interval(mse(worse, 0) - mse(good, 0))[0] > 0


def test_percentile_interval_by_hand_passes_over_undefined_resamples():
    values = np.append(np.arange(41.0), np.nan)
    assert statistics.percentile_interval(values) == pytest.approx((1, 39))
    assert statistics.percentile_interval([np.nan]) is None


def test_bootstrap_refuses_what_it_cannot_score():
    index, counts = statistics.resample_users([1, 2], 3)
    with pytest.raises(ValueError, match=r"'f1'; known are \['auc', 'mse'\]"):
        statistics.bootstrap_users("f1", [0, 1], [[0, 1]], index, counts)
    with pytest.raises(ValueError, match=r"must be \[seeds, 2\]"):
        statistics.bootstrap_users("auc", [0, 1], [0, 1], index, counts)
    with pytest.raises(ValueError, match="seed 0, row 1: prediction nan"):
        statistics.bootstrap_users("auc", [0, 1], [[0, np.nan]], index, counts)
    with pytest.raises(ValueError, match="at least one"):
        statistics.resample_users([], 3)
