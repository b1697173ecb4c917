"""What chance leaves of a simulated online test: pairs of models, offline and online.

Two kinds of chance, as in every table (`experiments.analysis.statistics`): seeds of the
models, and the sessions tried, drawn again by whole users. All policies rank the same
sessions, so both are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from experiments.analysis.statistics import (
    RESAMPLES,
    holm,
    mean_interval,
    paired_t,
    percentile_interval,
    resample_users,
)


def compare(
    views: Mapping[str, np.ndarray], users: np.ndarray, base: str
) -> dict[str, dict[str, Any]]:
    """Pair -> its view time and its change against the base, by both kinds of chance.

    Args:
      views: pair -> [seeds, sessions] seconds.
      users: [sessions], resampled whole for the interval over sessions.
      base: the pair that the others are compared with.

    Returns:
      Of each pair `mean`, `ci95` over seeds, `ci95_sessions` and `values`; of all but
      the base `vs_base`: `difference`, `relative`, both intervals of the difference,
      `p` of the paired t-test over seeds and `p_holm`.
    """
    index, counts = resample_users(users)
    over_sessions = lambda x: percentile_interval(_resampled_mean(x, index, counts))
    found, tests = {}, {}
    for pair, view in views.items():
        values = view.mean(1)
        over_seeds = mean_interval(values)
        found[pair] = {
            "mean": over_seeds.mean,
            "ci95": over_seeds.ends,
            "ci95_sessions": over_sessions(view.mean(0)),
            "values": values.tolist(),
        }
        if pair != base:
            tests[pair] = paired_t(values, views[base].mean(1))
    corrected = holm([test.p for test in tests.values()])
    for (pair, test), p_holm in zip(tests.items(), corrected, strict=True):
        found[pair]["vs_base"] = {
            "difference": test.difference,
            "relative": test.difference / found[base]["mean"],
            "ci95": test.ends,
            "ci95_sessions": over_sessions((views[pair] - views[base]).mean(0)),
            "p": test.p,
            "p_holm": p_holm,
        }
    return found


def _resampled_mean(
    values: np.ndarray, index: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """The mean over sessions in each resample of the users: [resamples]."""
    total = np.bincount(index, weights=values, minlength=counts.shape[1])
    rows = np.bincount(index, minlength=counts.shape[1])
    return (counts @ total) / (counts @ rows)


def correlate(models: Sequence[Mapping[str, Any]], better: int) -> dict[str, Any]:
    """Spearman's rank correlation of offline quality and view time over models.

    Args:
      models: each with `offline` and `view`, [seeds] both; three or more.
      better: 1 where the higher metric is better, -1 where the lower one is.

    Returns:
      `by_seed`, mean and 95 % interval over the seeds' correlations, cut at ±1, and
      `of_means`, that of the rows' means, with an interval over rows drawn again; None
      where it is undefined.
    """
    offline = better * np.array([model["offline"] for model in models])
    view = np.array([model["view"] for model in models])
    if len(models) < 3:
        return {"by_seed": None, "of_means": None}
    by_seed = [_spearman(*pair) for pair in zip(offline.T, view.T, strict=True)]
    means, rng = (offline.mean(1), view.mean(1)), np.random.default_rng(0)
    draws = rng.integers(len(models), size=(RESAMPLES, len(models)))
    drawn = [_spearman(*(x[draw] for x in means)) for draw in draws]
    known = None not in by_seed
    mean, low, high = mean_interval(by_seed) if known else (None, None, None)
    return {
        "by_seed": {
            "mean": mean,
            "ci95": None if low is None else [max(low, -1.0), min(high, 1.0)],
            "values": by_seed,
        },
        "of_means": {
            "value": _spearman(*means),
            "ci95": percentile_interval([np.nan if r is None else r for r in drawn]),
        },
    }


def _spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    # scipy.stats.spearmanr also tests, which takes ten times as long.
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
