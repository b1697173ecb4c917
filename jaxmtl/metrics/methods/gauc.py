"""The AUC within each user, averaged with the user's rows as weight.

GAUC (Zhu et al., "Optimized Cost per Click in Taobao Display Advertising", KDD 2017).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from jaxmtl.metrics.metric import Measure, Metric, binary_columns, measured


@dataclasses.dataclass(frozen=True)
class Gauc:
    """It has no options."""


def gauc(options: Gauc) -> Measure:
    """Of binary tasks."""
    del options
    return Measure(
        applies=lambda task: task.kind == "binary",
        of=grouped_area,
        higher_is_better=True,
    )


def grouped_area(labels: ArrayLike, scores: ArrayLike, users: ArrayLike) -> Metric:
    """GAUC: the AUC within each user, averaged with the user's rows as weight.

    Users whose rows are all of one class have no AUC and do not count.

    Args:
      labels: [n], 0 or 1.
      scores: [n], finite.
      users: [n], any sortable ids.

    Returns:
      A value in [0, 1] whose `n`, `positives` and `users` are those that count;
      undefined when no user has both classes.

    Raises:
      ValueError: shapes differ, a score is not finite, a label is not 0 or 1.
    """
    labels, scores = binary_columns(labels, scores)
    users = np.asarray(users)
    if users.shape != labels.shape:
        raise ValueError(
            f"users have shape {users.shape}, labels {labels.shape};"
            " give every row its user"
        )
    order = np.lexsort((scores, users))
    labels, scores, users = labels[order], scores[order], users[order]

    first_of_user = _starts(users)
    user = np.cumsum(first_of_user) - 1
    rows = np.bincount(user)
    p = np.bincount(user, weights=labels)
    # Ranks run through the whole sorted log; a user's offset makes them its own.
    tie = np.cumsum(first_of_user | _starts(scores)) - 1
    size = np.bincount(tie)
    last = np.cumsum(size)
    rank = ((last - size + 1 + last) / 2)[tie] - (np.cumsum(rows) - rows)[user]
    above = np.bincount(user, weights=rank * labels) - p * (p + 1) / 2

    both = (p > 0) & (p < rows)
    counted = labels[both[user]]
    value = None
    if both.any():
        value = np.average(
            above[both] / (p * (rows - p))[both],
            weights=rows[both],
        )
    return measured(value, counted)._replace(users=int(both.sum()))


def _starts(column: np.ndarray) -> np.ndarray:
    """True where a sorted column takes a new value."""
    starts = np.ones(len(column), bool)
    starts[1:] = column[1:] != column[:-1]
    return starts
