"""Mean squared error.

LT4REC, section 3.1, judges CVR by it over clicks.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from jaxmtl.metrics.metric import Measure, Metric, columns, measured


@dataclasses.dataclass(frozen=True)
class Mse:
    """It has no options."""


def mse(options: Mse) -> Measure:
    """Of every task."""
    del options
    return Measure(
        applies=lambda task: True,
        of=lambda labels, predictions, _: squared_error(labels, predictions),
    )


def squared_error(labels: ArrayLike, predictions: ArrayLike) -> Metric:
    """Mean squared error over [n] rows; undefined without rows."""
    labels, predictions = columns(labels, predictions)
    if not len(labels):
        return measured(None, labels)
    return measured(np.mean((labels - predictions) ** 2), labels)
