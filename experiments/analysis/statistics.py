"""How sure a table is: intervals over seeds, paired tests, users drawn again.

Two sources of chance are kept apart. *Seeds* (initial weights, order of data)
give t-intervals and paired t-tests, with Holm's correction (Holm 1979) over the
rows of a table. *Test users* give a paired bootstrap (Efron & Tibshirani 1993,
chapter 16): whole users are drawn with replacement, since the rows of one user
depend on each other, and every row of a table is scored on the same draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.sparse import csr_array

LEVEL = 0.95
SIGNIFICANCE = 0.05
"""Below it a p, corrected where it must be, decides."""
RESAMPLES = 2000
"""Draws of the test users behind an interval: fifty lie beyond either end."""
CLUSTERS = 2**16
"""Users, or clusters of users, that are drawn from at most."""
CELLS, BLOCK = 2**22, 256
"""Counts wider than a byte, and levels of a score, at a time: what caches hold."""


class Interval(NamedTuple):
    """A mean with its 95 % interval; no ends where one value is all there is."""

    mean: float
    low: float | None
    high: float | None

    @property
    def ends(self) -> list[float] | None:
        """Both ends, or None, as results hold them."""
        return None if self.low is None else [self.low, self.high]


class PairedTest(NamedTuple):
    """Mean of `a - b` with its 95 % interval and two-sided p; None = no test."""

    difference: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def ends(self) -> list[float] | None:
        """Both ends, or None, as results hold them."""
        return Interval(self.difference, self.low, self.high).ends


def is_significant(p: float | None) -> bool:
    """Whether a p decides; where there is no test, it does not."""
    return p is not None and p < SIGNIFICANCE


def mean_interval(values: ArrayLike) -> Interval:
    """Mean and 95 % t-interval of a metric over seeds.

    Args:
      values: [seeds], finite, at least one.

    Raises:
      ValueError: there is no value, or one is not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(
            f"an interval needs a list of one or more finite values; got {values}"
        )
    mean = float(values.mean())
    if values.size == 1:
        return Interval(mean, None, None)
    half = float(
        stats.t.ppf((1 + LEVEL) / 2, values.size - 1) * stats.sem(values, ddof=1)
    )
    return Interval(mean, mean - half, mean + half)


def paired_t(a: ArrayLike, b: ArrayLike) -> PairedTest:
    """Paired t-test of two rows over the seeds they share.

    Args:
      a: [seeds], the row's metric.
      b: [seeds], the baseline's, seed by seed.

    Returns:
      The mean difference `a - b`, its interval and p. One seed leaves only the
      difference. Differences that vary by no more than rounding leave p None:
      they show no chance to test against.

    Raises:
      ValueError: shapes differ, there is no value, or one is not finite.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(
            f"paired values have shapes {a.shape} and {b.shape}; give both rows the"
            " same seeds in the same order"
        )
    mean, low, high = mean_interval(a - b)
    if low is None:
        return PairedTest(mean, None, None, None)
    error = stats.sem(a - b, ddof=1)
    if error <= 1e-12 * max(np.abs(a).max(), np.abs(b).max()):
        return PairedTest(mean, low, high, None)
    p = 2 * stats.t.sf(abs(mean) / error, a.size - 1)
    return PairedTest(mean, low, high, float(p))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction over a family of tests.

    The k-th smallest of m p-values is multiplied by m - k + 1, kept from falling
    below the one before it, and capped at 1.

    Args:
      p_values: one a test; None = no test, which neither changes nor counts.
    """
    adjusted = list(p_values)
    tested = sorted(
        (i for i, p in enumerate(p_values) if p is not None), key=p_values.__getitem__
    )
    floor = 0.0
    for rank, i in enumerate(tested):
        floor = max(floor, min(1.0, (len(tested) - rank) * p_values[i]))
        adjusted[i] = floor
    return adjusted


def correct(tests: Sequence[dict[str, Any]], *keys: str) -> None:
    """Gives each test its `p_holm`: those alike in all of `keys` are one family.

    Args:
      tests: every test of a page at once, each with its `p` and `keys`.
      keys: what a family has in common; without any, all tests are one.
    """
    families: dict[tuple, list[dict[str, Any]]] = {}
    for test in tests:
        families.setdefault(tuple(test[key] for key in keys), []).append(test)
    for family in families.values():
        corrected = holm([test["p"] for test in family])
        for test, p in zip(family, corrected, strict=True):
            test["p_holm"] = p


def power(
    effect: float | None, deviation: float | None, seeds: int, level: float
) -> float | None:
    """The chance that a paired t-test decides for an effect that is there.

    The differences are taken for normal; then t is noncentral (Cohen 1988, chapter 2).

    Args:
      effect: the true mean difference; None = unknown.
      deviation: standard deviation of the differences over seeds.
      seeds: how many are paired.
      level: below which the two-sided p decides: `SIGNIFICANCE` over the number of
        tests at the first step of Holm's correction, where nothing is decided yet.

    Returns:
      In [0, 1]; None where the effect is unknown or differences show no chance.
    """
    if effect is None or not deviation or seeds < 2:
        return None
    critical = stats.t.isf(level / 2, seeds - 1)
    shift = abs(effect) * np.sqrt(seeds) / deviation
    return float(stats.nct.sf(critical, seeds - 1, shift))


def resample_users(
    users: ArrayLike, n_resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws as many test users as there are, with replacement, again and again.

    More than `CLUSTERS` users are dealt at random into so many clusters, which are
    drawn in their place: they are as independent as users are, and an interval's width
    is known to 1 / sqrt(2 · CLUSTERS), .3 %, where `RESAMPLES` leave it to 1.6 %.

    Args:
      users: [rows], ids of the test rows' users.
      n_resamples: how often to draw, at least 1.
      seed: of the draws. The rows of a table must share it to be paired.

    Returns:
      user_index, int64 [rows]: the row's column of `counts`.
      counts, uint8 [n_resamples, users]: how often a resample holds a user.

    Raises:
      ValueError: there are no rows or no resamples.
    """
    users = np.asarray(users)
    if users.ndim != 1 or not users.size or n_resamples < 1:
        raise ValueError(
            f"cannot draw {n_resamples} resamples from users of shape"
            f" {users.shape}; both need at least one"
        )
    known, user_index = np.unique(users, return_inverse=True)
    n, random = len(known), np.random.default_rng(seed)
    if n > CLUSTERS:
        user_index = (random.permutation(n) % CLUSTERS)[user_index]
        n = CLUSTERS
    # The chance that n draws of n hold one user k times is below 1 / k!, which for 256
    # is 1e-507: a byte is enough. A user's counts lie together, as AUC reads them.
    counts = np.empty((n_resamples, n), np.uint8, order="F")
    for resample in counts:
        resample[:] = np.bincount(random.integers(n, size=n), minlength=n)
    return user_index, counts


def bootstrap_auc(
    labels: ArrayLike, scores: ArrayLike, user_index: ArrayLike, counts: np.ndarray
) -> np.ndarray:
    """AUC in each resample, a user's rows weighted by how often it was drawn.

    Where positives stand, the distinct scores are levels. For all resamples at a time,
    sparse products with the counts give each level's weight of positives and what
    weight of negatives it adds to those outscored; ties count half. Integers
    throughout, so the result is exact.

    Args:
      labels: [n], 0 or 1.
      scores: [n], or [seeds, n], whose AUCs are averaged.
      user_index: [n], columns of `counts`.
      counts: uint8 [n_resamples, users], from `resample_users`.

    Returns:
      float64 [n_resamples]; NaN where a resample lacks a class.
    """
    positive, user_index = np.asarray(labels) > 0, np.asarray(user_index)
    by_class = [
        np.bincount(user_index[rows], minlength=counts.shape[1]).astype(np.float64)
        for rows in (positive, ~positive)
    ]
    pairs = np.prod(_weigh(np.stack(by_class, axis=1), counts), axis=1)
    scores = np.atleast_2d(scores)
    levels = [_levels(s, positive, user_index, counts.shape[1]) for s in scores]
    won = np.zeros(len(counts), np.int64)  # twice the pairs, over all seeds
    for at in _chunks(counts):
        drawn = counts[at].T.astype(np.int32, order="C")
        for gained, owned in levels:
            won[at] += _won(gained, owned, drawn)
    undefined = np.full(len(counts), np.nan)
    return np.divide(won, 2 * len(scores) * pairs, out=undefined, where=pairs > 0)


def _levels(
    scores: np.ndarray, positive: np.ndarray, user_index: np.ndarray, users: int
) -> tuple[csr_array, csr_array]:
    """Distinct scores of positives, ascending, by user: int32 [levels, users] both.

    Returns:
      Twice the negatives that a level outscores and the one below does not, a tied one
      counted once at its level and once above; and the level's positives.
    """
    levels, level = np.unique(scores[positive], return_inverse=True)
    negatives, theirs = scores[~positive], user_index[~positive]
    first = np.searchsorted(levels, negatives)  # that does not lie below it
    tied = np.append(levels, np.nan)[first] == negatives
    at = np.concatenate([first, first[tied] + 1])
    user = np.concatenate([theirs, theirs[tied]])
    value = np.concatenate([2 - tied, np.ones(tied.sum(), int)]).astype(np.int32)
    inside = at < len(levels)  # above the last, nothing outscores it
    shape = (len(levels), users)
    gained = csr_array((value[inside], (at[inside], user[inside])), shape=shape)
    ones = np.ones(len(level), np.int32)
    return gained, csr_array((ones, (level, user_index[positive])), shape=shape)


def _won(gained: csr_array, owned: csr_array, drawn: np.ndarray) -> np.ndarray:
    """Twice the pairs that positives win, int64 [resamples]; drawn: [users, same]."""
    won = np.zeros(drawn.shape[1], np.int64)
    outscored = np.zeros(drawn.shape[1], np.int32)
    for start in range(0, gained.shape[0], BLOCK):
        block = slice(start, start + BLOCK)
        weight = gained[block] @ drawn
        weight[0] += outscored
        for below, here in itertools.pairwise(weight):  # cumsum takes 6 times as long
            here += below
        outscored = weight[-1]
        won += np.einsum("ld,ld->d", owned[block] @ drawn, weight, dtype=np.int64)
    return won


def bootstrap_mse(
    labels: ArrayLike, predictions: ArrayLike, user_index: ArrayLike, counts: np.ndarray
) -> np.ndarray:
    """MSE in each resample: products of the counts with sums per user.

    Args and result are those of `bootstrap_auc`, for any labels; NaN where a
    resample holds no row.
    """
    errors = np.asarray(labels, np.float64) - np.atleast_2d(predictions)
    users, squared = counts.shape[1], np.mean(errors**2, axis=0)
    sums = np.bincount(user_index, weights=squared, minlength=users)
    rows = np.bincount(user_index, minlength=users).astype(np.float64)
    total, n = _weigh(np.stack([sums, rows], axis=1), counts).T
    return np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)


def _chunks(counts: np.ndarray) -> list[slice]:
    """Resamples whose counts are `CELLS` numbers, and no more."""
    step = max(1, CELLS // counts.shape[1])
    return [slice(at, at + step) for at in range(0, len(counts), step)]


def _weigh(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums per user [users, k], over the users of each resample: [n_resamples, k]."""
    return np.concatenate([counts[at] @ sums for at in _chunks(counts)])


BOOTSTRAPS = {"auc": bootstrap_auc, "mse": bootstrap_mse}


def bootstrap_users(
    metric: Literal["auc", "mse"],
    labels: ArrayLike,
    predictions: ArrayLike,
    user_index: ArrayLike,
    counts: np.ndarray,
) -> np.ndarray:
    """A row's metric in each resample, averaged over its seeds.

    Two rows scored with the same `counts` are paired: subtract their results
    and hand the difference to `percentile_interval`.

    Args:
      metric: `auc` or `mse`.
      labels: [n], of the rows in the task's label space.
      predictions: [seeds, n], finite.
      user_index: [n], columns of `counts`.
      counts: uint8 [n_resamples, users], from `resample_users`.

    Returns:
      float64 [n_resamples]; NaN where a resample leaves the metric undefined.

    Raises:
      ValueError: the metric is unknown, shapes differ or a prediction is not
        finite.
    """
    if metric not in BOOTSTRAPS:
        raise ValueError(f"no bootstrap of {metric!r}; known are {sorted(BOOTSTRAPS)}")
    predictions, n = np.asarray(predictions), len(np.asarray(labels))
    if predictions.ndim != 2 or predictions.shape[1] != n or len(user_index) != n:
        raise ValueError(
            f"predictions have shape {predictions.shape} and user_index"
            f" ({len(user_index)},); with {n} labels they must be [seeds, {n}] and"
            f" [{n}]"
        )
    if not np.isfinite(predictions).all():
        seed, row = np.argwhere(~np.isfinite(predictions))[0]
        raise ValueError(
            f"seed {seed}, row {row}: prediction {predictions[seed, row]} is not finite"
        )
    return BOOTSTRAPS[metric](labels, predictions, user_index, counts)


def percentile_interval(differences: ArrayLike) -> tuple[float, float] | None:
    """The middle 95 % of a paired bootstrap's differences, [n_resamples].

    Resamples that leave the metric undefined (NaN) are passed over; None if all
    do.
    """
    differences = np.asarray(differences, np.float64)
    known = differences[~np.isnan(differences)]
    if not known.size:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
