"""What a metric is, and the checks that several of them share.

Everything here is NumPy in float64 on the host. A metric that its rows cannot
decide (no rows, one class) is *undefined*: its value is None, never NaN, and
its counts say why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxmtl.types import IMPRESSION, Task


class Metric(NamedTuple):
    """A measured value with the counts behind it.

    Attributes:
      value: None where the rows do not decide it.
      n: rows that count.
      positives: of these, rows with a label above 0.
      space: label space the rows were taken from.
      users: users that count, for a metric grouped by user.
    """

    value: float | None
    n: int
    positives: int | None
    space: str = IMPRESSION
    users: int | None = None

    @property
    def counts(self) -> str:
        """The counts as text: `n=12, positives=0`."""
        names = ("n", "positives", "users")
        known = ((name, getattr(self, name)) for name in names)
        return ", ".join(
            f"{name}={count}" for name, count in known if count is not None
        )

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined ({self.counts})"
        return f"{self.value:.5f}"


class Measure(NamedTuple):
    """A metric as pure functions; what a file of `jaxmtl.metrics.methods` makes.

    Attributes:
      applies: whether a task is judged by it.
      of: (labels, predictions, users) -> `Metric`, on the rows of a task's space:
        float64 [n] labels, and predictions (probabilities, or values where the task
        is none), both finite; ids [n] that group a user's rows.
      higher_is_better: whether of two models the one with more of it predicts better.
    """

    applies: Callable[[Task], bool]
    of: Callable[[np.ndarray, np.ndarray, np.ndarray], Metric]
    higher_is_better: bool = False


def measured(value: float | None, labels: np.ndarray) -> Metric:
    """A value with the counts of its rows.

    Args:
      value: None where the rows do not decide it.
      labels: [n], of the rows that count.
    """
    positives = int(np.count_nonzero(labels > 0))
    return Metric(None if value is None else float(value), len(labels), positives)


def columns(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions as float64 [n], checked.

    Raises:
      ValueError: shapes differ, or an entry is not finite; names the first such row.
    """
    labels = np.asarray(labels, np.float64)
    predictions = np.asarray(predictions, np.float64)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(
            f"labels have shape {labels.shape}, predictions {predictions.shape};"
            " both must be [rows]"
        )
    for name, column in (("label", labels), ("prediction", predictions)):
        wrong = ~np.isfinite(column)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ValueError(f"row {at}: {name} is {column[at]}; it must be finite")
    return labels, predictions


def binary_columns(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """As `columns`, of labels that are 0 or 1.

    Raises:
      ValueError: as `columns`, or a label is neither; names the first such row.
    """
    labels, scores = columns(labels, scores)
    wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"row {at}: label {labels[at]} is neither 0 nor 1, which AUC needs; judge"
            " a continuous label by mse"
        )
    return labels, scores
