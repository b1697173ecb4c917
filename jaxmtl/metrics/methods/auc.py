"""Chance that a positive row outscores a negative one.

The Mann-Whitney statistic over P·N, ties counted half. LT4REC, section 3.1, judges
CTR by it over impressions.
"""

from __future__ import annotations

import dataclasses

from numpy.typing import ArrayLike

from jaxmtl.metrics.metric import Measure, Metric, binary_columns, measured


@dataclasses.dataclass(frozen=True)
class Auc:
    """It has no options."""


def auc(options: Auc) -> Measure:
    """Of binary tasks."""
    del options
    return Measure(
        applies=lambda task: task.kind == "binary",
        of=lambda labels, predictions, _: area_under_curve(labels, predictions),
        higher_is_better=True,
    )


def area_under_curve(labels: ArrayLike, scores: ArrayLike) -> Metric:
    """Chance that a positive row outscores a negative one; a tie counts half.

    Args:
      labels: [n], 0 or 1.
      scores: [n], finite; only their order matters.

    Returns:
      A value in [0, 1]; undefined when a class is missing.

    Raises:
      ValueError: shapes differ, a score is not finite, a label is not 0 or 1.
    """
    from scipy.stats import rankdata  # half a second, which a help text can spare

    labels, scores = binary_columns(labels, scores)
    positive = labels > 0
    p, n = int(positive.sum()), len(labels)
    if p in (0, n):
        return measured(None, labels)
    above = rankdata(scores)[positive].sum() - p * (p + 1) / 2
    return measured(above / (p * (n - p)), labels)
