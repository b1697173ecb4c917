"""Numbers that go wrong: a step that must not move anything, and the batch it took.

One infinite gradient spoils a net and its moments for good. A step therefore looks
at its losses and gradients first; where one is not finite it closes its gates and
sends its ids out of range. That costs a pass over the gradients, which are as large
as the net and the batch; to choose between the old and the new state afterwards
would copy whole embedding tables.

A parameter that overflows in an update from finite gradients shows in the losses of
the steps that follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.types import Array


class BadBatch(NamedTuple):
    """A step whose loss or gradient was not finite.

    Attributes:
      step: counted from 1 over all epochs.
      task: whose loss it was.
      rows: int32, numbers of its rows in the training split.
    """

    step: int
    task: str
    rows: np.ndarray


class NonFiniteLoss(ArithmeticError):
    """A loss, gradient or prediction became infinite or NaN.

    Attributes:
      batch: the step's; None where it was a prediction.
    """

    def __init__(self, message: str, batch: BadBatch | None = None):
        super().__init__(message)
        self.batch = batch


def is_sound(losses: Mapping[str, Array], gradients: Any) -> Array:
    """bool: whether a step may move anything.

    Of a gradient the sum of squares is looked at, which takes half the time of a look
    at each number. It overflows above 1.8e19, where Adam's squares do too.

    Args:
      losses: task -> scalar.
      gradients: a tree of arrays.
    """
    squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradients)]
    return _all_finite(losses) & _all_finite(squares)


def flagged(losses: Mapping[str, Array], sound: Array) -> dict[str, Array]:
    """A step's losses, all NaN where it is unsound though each of them is finite.

    So a loss that is not finite says that the step moved nothing.

    Args:
      losses: task -> scalar.
      sound: bool scalar, what `is_sound` says of them and their gradients.
    """
    blame_all = ~sound & _all_finite(losses)
    return {task: jnp.where(blame_all, jnp.nan, x) for task, x in losses.items()}


def _all_finite(scalars: Any) -> Array:
    return jnp.all(jnp.isfinite(jnp.stack(jax.tree.leaves(scalars))))


def bad_steps(
    losses: Mapping[str, np.ndarray], kinds: Mapping[str, tuple[str, ...]]
) -> list[tuple[int, str, str]]:
    """The steps that moved nothing, in the order they were taken.

    Args:
      losses: task -> float [steps], as `flagged` leaves them.
      kinds: kind of step -> its tasks, in the order steps alternate.

    Returns:
      For each its place, counted from 0, its kind, and the first task to blame.
    """
    found = []
    for order, (kind, tasks) in enumerate(kinds.items()):
        is_bad = ~np.isfinite(np.stack([losses[task] for task in tasks], axis=1))
        for at in np.flatnonzero(is_bad.any(axis=1)):
            found.append((int(at), order, kind, tasks[int(np.argmax(is_bad[at]))]))
    return [(at, kind, task) for at, _, kind, task in sorted(found)]
