"""Mean cross-entropy in nats."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from jaxmtl.metrics.metric import Measure, Metric, columns, measured

CLIP = 1e-7
"""Log loss keeps probabilities this far from 0 and 1. A float32 sigmoid rounds
to exactly 1 near logit 17, and one such row must not make the mean infinite."""


@dataclasses.dataclass(frozen=True)
class LogLoss:
    """It has no options."""


def log_loss(options: LogLoss) -> Measure:
    """Of tasks with values in [0, 1]."""
    del options
    return Measure(
        applies=lambda task: task.is_probability,
        of=lambda labels, predictions, _: cross_entropy(labels, predictions),
    )


def cross_entropy(labels: ArrayLike, predictions: ArrayLike) -> Metric:
    """Mean cross-entropy in nats, probabilities clipped by `CLIP`.

    Args:
      labels: [n], in [0, 1]. Between the ends the least possible value is the
        label's own entropy, not 0.
      predictions: [n], probabilities in [0, 1].

    Raises:
      ValueError: shapes differ, or a label or prediction lies outside [0, 1].
    """
    labels, predictions = columns(labels, predictions)
    for name, column in (("label", labels), ("prediction", predictions)):
        outside = (column < 0) | (column > 1)
        if outside.any():
            at = int(np.argmax(outside))
            raise ValueError(
                f"row {at}: {name} {column[at]} lies outside [0, 1]; log loss needs"
                " probabilities, not logits or amounts"
            )
    if not len(labels):
        return measured(None, labels)
    kept = np.clip(predictions, CLIP, 1 - CLIP)
    entropy = -(labels * np.log(kept) + (1 - labels) * np.log1p(-kept))
    return measured(np.mean(entropy), labels)
