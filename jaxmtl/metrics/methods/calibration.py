"""Sum predicted over sum observed."""

from __future__ import annotations

import dataclasses

from numpy.typing import ArrayLike

from jaxmtl.metrics.metric import Measure, Metric, columns, measured


@dataclasses.dataclass(frozen=True)
class Calibration:
    """It has no options."""


def calibration(options: Calibration) -> Measure:
    """Of every task."""
    del options
    return Measure(
        applies=lambda task: True,
        of=lambda labels, predictions, _: predicted_over_observed(labels, predictions),
    )


def predicted_over_observed(labels: ArrayLike, predictions: ArrayLike) -> Metric:
    """Sum predicted over sum observed: 1 is right, above 1 promises too much.

    Undefined where nothing was observed.
    """
    labels, predictions = columns(labels, predictions)
    observed = labels.sum()
    value = predictions.sum() / observed if observed > 0 else None
    return measured(value, labels)
