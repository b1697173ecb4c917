"""How sure a table is: intervals over seeds, paired tests, users drawn again.

Two sources of chance are kept apart. *Seeds* (initial weights, order of data)
give t-intervals and paired t-tests, with Holm's correction (Holm 1979) over the
rows of a table. *Test users* give a paired bootstrap (Efron & Tibshirani 1993,
chapter 16): whole users are drawn with replacement, since the rows of one user
depend on each other, and every row of a table is scored on the same draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95
SIGNIFICANCE = 0.05
"""Below it a p, corrected where it must be, decides."""
CELLS = 2**25
"""Counts that are float64 at a time: a quarter of a GiB."""


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


def resample_users(
    users: ArrayLike, n_resamples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws as many test users as there are, with replacement, again and again.

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
    # The chance that n draws of n hold one user k times is below 1 / k!, which for 256
    # is 1e-507: a byte is enough, and two million users take 0.4 GB, not 1.7.
    counts = np.empty((n_resamples, n), np.uint8)
    for resample in counts:
        resample[:] = np.bincount(random.integers(n, size=n), minlength=n)
    return user_index, counts


def bootstrap_auc(
    labels: ArrayLike, scores: ArrayLike, user_index: ArrayLike, counts: np.ndarray
) -> np.ndarray:
    """AUC in each resample, a user's rows weighted by how often it was drawn.

    Negatives are sorted once; a positive then finds the weight it outscores in
    their cumulative weights, at two places known beforehand (below its score,
    and up to it: ties count half). Integers throughout, so the result is exact.

    Args:
      labels: [n], 0 or 1.
      scores: [n].
      user_index: [n], columns of `counts`.
      counts: uint8 [n_resamples, users], from `resample_users`.

    Returns:
      float64 [n_resamples]; NaN where a resample lacks a class.
    """
    positive = np.asarray(labels) > 0
    scores, user_index = np.asarray(scores), np.asarray(user_index)
    order = np.argsort(scores[~positive])
    negatives = scores[~positive][order]
    negative_users = user_index[~positive][order]
    # Sorting the positives too keeps the reads of `below` in memory order.
    order = np.argsort(scores[positive])
    positives = scores[positive][order]
    positive_users = user_index[positive][order]
    below = np.searchsorted(negatives, positives, side="left")
    up_to = np.searchsorted(negatives, positives, side="right")

    values = np.full(len(counts), np.nan)
    weight = np.zeros(len(negatives) + 1, np.int64)
    for r, drawn in enumerate(counts):
        np.cumsum(drawn[negative_users], dtype=np.int64, out=weight[1:])
        ours = drawn[positive_users]
        pairs = int(ours.sum(dtype=np.int64)) * int(weight[-1])
        if pairs:
            values[r] = int(ours @ (weight[below] + weight[up_to])) / (2 * pairs)
    return values


def bootstrap_mse(
    labels: ArrayLike, predictions: ArrayLike, user_index: ArrayLike, counts: np.ndarray
) -> np.ndarray:
    """MSE in each resample: products of the counts with sums per user.

    They are made for some resamples at a time, in `CELLS` float64 and no more unless
    there are as many users.

    Args and result are those of `bootstrap_auc`, for any labels; NaN where a
    resample holds no row.
    """
    squared = (np.asarray(labels, np.float64) - np.asarray(predictions)) ** 2
    users = counts.shape[1]
    errors = np.bincount(user_index, weights=squared, minlength=users)
    rows = np.bincount(user_index, minlength=users).astype(np.float64)
    sums, step = np.stack([errors, rows], axis=1), max(1, CELLS // users)
    parts = [counts[at : at + step] @ sums for at in range(0, len(counts), step)]
    total, n = np.concatenate(parts).T
    return np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)


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
    measure = BOOTSTRAPS[metric]
    return np.mean(
        [measure(labels, p, user_index, counts) for p in predictions], axis=0
    )


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
