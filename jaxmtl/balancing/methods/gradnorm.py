"""GradNorm: weights that even out the tasks' gradient norms and speeds of learning.

Chen, Badrinarayanan, Lee and Rabinovich, "GradNorm: Gradient Normalization for Adaptive
Loss Balancing in Deep Multitask Networks", ICML 2018, Algorithm 1. With G_i the norm of
w_i ∇L_i, its mean Ḡ and r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0)), weights w descend

  Σ_i | G_i − Ḡ r_i^α |   (eq. 2), Ḡ r_i^α held constant,

by Adam and are then rescaled to a sum of T, the number of tasks. The net follows the
gradient of Σ_i w_i L_i under the weights from before.

Left open there, and chosen here: norms are over all that tasks share; L_i(0) is the
loss of the first batch that holds a row of the task; a weight that would fall below
`SMALLEST` stops there before weights are rescaled, so all stay positive; a task without
a row keeps its weight, and the others share what it leaves of T. A weight given to a
task scales L_i, so it changes norms and not r_i.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import optax

from jaxmtl.balancing import balancer
from jaxmtl.balancing.balancer import Balancer, Weights
from jaxmtl.types import Array

SMALLEST = 1e-3
"""Of a learned weight, before weights are rescaled to their sum."""
LARGEST = 1e9
"""Of L / L(0): a first loss of next to nothing must not make the weights infinite."""


@dataclasses.dataclass(frozen=True)
class GradNorm:
    """Options.

    Attributes:
      alpha: how strongly a task that learns slowly is pulled ahead; 0 asks for equal
        norms alone. The paper takes 1.5 on NYUv2.
      rate: learning rate of the weights over that of the net.
    """

    alpha: float = 1.5
    rate: float = 1.0

    def __post_init__(self):
        for name in ("alpha", "rate"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"gradnorm: {name} is {value}; give one from 0 on")


class State(NamedTuple):
    """Task -> what is kept for it.

    Attributes:
      weights: given to its loss.
      learned: w, summing to the number of tasks.
      first: L(0), times the weight given; 0 until there is one.
      moments: of the learned weights' Adam.
    """

    weights: dict[str, Array]
    learned: dict[str, Array]
    first: dict[str, Array]
    moments: dict[str, optax.OptState]


def gradnorm(options: GradNorm) -> Balancer:
    """The balancer of some options."""

    def init(tasks, key, weights):
        del key
        ones = balancer.filled(tasks)
        return State(
            balancer.task_weights(tasks, weights),
            ones,
            balancer.filled(tasks, 0.0),
            balancer.adam_init(ones),
        )

    def combine(losses, pull, state, *, masks, counts, step, learning_rate):
        del masks, step
        each, rest = balancer.pull_each(pull, balancer.present(state.weights, counts))
        norms = {name: balancer.norm(balancer.shared(g)) for name, g in each.items()}
        seen = {name: state.weights[name] * loss for name, loss in losses.items()}
        is_here = {name: counts[name] > 0 for name in losses}
        first = {
            name: jnp.where(is_here[name] & (state.first[name] == 0), loss, start)
            for name, loss, start in ((n, seen[n], state.first[n]) for n in losses)
        }
        # With a first loss that is not positive no later one can be compared.
        moves = {name: is_here[name] & (first[name] > 0) for name in losses}
        slopes = _slopes(options.alpha, state.learned, norms, seen, first, moves)
        rate = options.rate * learning_rate
        learned, moments = balancer.adam_step(
            state.learned, slopes, state.moments, moves, rate
        )
        gradients = balancer.total(
            [balancer.scaled(g, state.learned[name]) for name, g in each.items()]
            + [rest]
        )
        used = {name: state.weights[name] * state.learned[name] for name in losses}
        state = state._replace(
            learned=_rescaled(learned, moves),
            first=state.first | first,
            moments=moments,
        )
        return gradients, state, used

    return Balancer(init, combine, needs_shared=True)


def _slopes(
    alpha: float,
    learned: Weights,
    norms: Weights,
    losses: Weights,
    first: Weights,
    moves: Weights,
) -> dict[str, Array]:
    """The derivative of eq. (2) by each weight, where it moves.

    Args:
      alpha: of the options.
      learned: w.
      norms: of ∇L, without w.
      losses: L.
      first: L(0).
      moves: bools, the tasks that are compared with each other.
    """
    names = sorted(moves)
    stack = lambda values: jnp.stack([values[name] for name in names])
    here = stack(moves)
    mean = lambda values: jnp.sum(values, where=here) / jnp.maximum(jnp.sum(here), 1)
    ratio = jnp.clip(stack(losses) / jnp.where(here, stack(first), 1), 0, LARGEST)
    speed = mean(ratio)
    # Where every loss is zero, all learn alike.
    relative = jnp.where(speed > 0, ratio / jnp.where(speed > 0, speed, 1), 1)
    size = stack(learned) * stack(norms)
    slopes = jnp.sign(size - mean(size) * relative**alpha) * stack(norms)
    return dict(zip(names, slopes, strict=True))


def _rescaled(learned: Weights, moves: Weights) -> dict[str, Array]:
    """The weights, those that move made positive and to sum to what others leave."""
    moves = {name: moves.get(name, False) for name in learned}
    moved = {
        name: jnp.where(moves[name], jnp.maximum(w, SMALLEST), 0)
        for name, w in learned.items()
    }
    left = sum(jnp.where(moves[name], 1, 1 - w) for name, w in learned.items())
    whole = sum(moved.values())
    factor = left / jnp.where(whole > 0, whole, 1)
    return {
        name: jnp.where(moves[name], factor * moved[name], w)
        for name, w in learned.items()
    }
