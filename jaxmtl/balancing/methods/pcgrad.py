"""PCGrad: what two tasks' gradients hold against each other is projected out.

Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, Algorithm 1. Every
task starts from g = g_i and, for the other tasks j in random order, takes

  g ← g − (g · g_j / ‖g_j‖²) g_j   where g · g_j < 0,

with g_j as it was pulled back, not as its own turn left it. The step follows the sum of
the results. The order is drawn for each task from the key of the state and the step.

Under masks a task's gradient is projected inside the overlap alone: the inner product,
the norm and what is subtracted are over the weights that both tasks see, so no surgery
of one task's gradient moves a weight that only the other sees. A task's own part and
the rows of the tables get the plain sum.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmtl.balancing import balancer
from jaxmtl.balancing.balancer import Balancer
from jaxmtl.types import Array, Key


@dataclasses.dataclass(frozen=True)
class PCGrad:
    """It has no options."""


class State(NamedTuple):
    """What is kept; no step changes it.

    Attributes:
      weights: task -> weight given to its loss.
      key: of the orders.
    """

    weights: dict[str, Array]
    key: Key


def pcgrad(options: PCGrad) -> Balancer:
    """The balancer."""
    del options

    def init(tasks, key, weights):
        return State(balancer.task_weights(tasks, weights), key)

    def combine(losses, pull, state, *, masks, counts, step, learning_rate):
        del learning_rate
        each, rest = balancer.pull_each(pull, balancer.present(state.weights, counts))
        orders = jax.random.split(jax.random.fold_in(state.key, step), len(each))
        parts = [balancer.shared(rest)]
        for i, (name, key) in enumerate(zip(each, orders, strict=True)):
            # A gradient is 0 where its own task sees nothing: the overlap is left.
            seen = [balancer.shared(g, masks[name]) for g in each.values()]
            order = jax.random.permutation(key, len(each))
            amounts = project(balancer.gramian(seen), i, order)
            parts += [balancer.scaled(g, amounts[j]) for j, g in enumerate(seen)]
        gradients = balancer.with_shared(
            balancer.total([*each.values(), rest]), balancer.total(parts)
        )
        return gradients, state, {name: state.weights[name] for name in losses}

    return Balancer(init, combine, needs_shared=True)


def project(gramian: Array, i: int, order: Array) -> Array:
    """Algorithm 1 for one task, by the gradients' inner products.

    Args:
      gramian: float32 [T, T].
      i: the task.
      order: int [T], a permutation of all tasks; its own turn does nothing.

    Returns:
      float32 [T], how much of each gradient the projected one holds: 1 of its own.
    """

    def turn(amounts, j):
        along, square = jnp.sum(amounts * gramian[j]), gramian[j, j]
        against = (j != i) & (along < 0) & (square > 0)
        part = jnp.where(against, along / jnp.where(square > 0, square, 1), 0)
        return amounts.at[j].add(-part), None

    start = jnp.zeros(len(gramian), gramian.dtype).at[i].set(1)
    return jax.lax.scan(turn, start, order)[0]
