"""Mean squared error over the rows with a label above 0."""

from __future__ import annotations

import dataclasses

from numpy.typing import ArrayLike

from jaxmtl.metrics.methods.mse import squared_error
from jaxmtl.metrics.metric import Measure, Metric, columns


@dataclasses.dataclass(frozen=True)
class MsePositive:
    """It has no options."""


def mse_positive(options: MsePositive) -> Measure:
    """Of every task."""
    del options
    return Measure(
        applies=lambda task: True,
        of=lambda labels, predictions, _: squared_error_of_positives(
            labels, predictions
        ),
    )


def squared_error_of_positives(labels: ArrayLike, predictions: ArrayLike) -> Metric:
    """Mean squared error over the rows with a label above 0."""
    labels, predictions = columns(labels, predictions)
    positive = labels > 0
    return squared_error(labels[positive], predictions[positive])
