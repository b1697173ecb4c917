"""Uncertainty weighting: a learned noise of each task weighs its loss.

Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for
Scene Geometry and Semantics", CVPR 2018. With the log-variance s_t = log σ_t², which
section 3.2 learns for being stable, a task adds

  e^{-s} L / 2 + s / 2   for a squared loss (eq. 5: a Gaussian of variance e^s),
  e^{-s} L + s / 2       for a cross-entropy (eq. 10: a softmax of temperature e^s),

so its loss has the weight e^{-s} / 2 or e^{-s}. Which one holds follows from the name
of the task's loss: `squared`, or any other. In the paper s is a parameter of the net;
here it has an Adam of its own in the state and starts at 0. The objective is least at
e^s = L or 2 L: a weight given to a task scales L and is made up for in the end.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import optax

from jaxmtl.balancing import balancer
from jaxmtl.balancing.balancer import Balancer
from jaxmtl.types import Array

LIMIT = 20.0
"""Of |s|: a loss of zero would drive its weight to infinity. No loss that is worth
learning comes near e^-20."""


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """Options.

    Attributes:
      rate: learning rate of s over that of the net.
    """

    rate: float = 1.0

    def __post_init__(self):
        if not 0 <= self.rate < float("inf"):
            raise ValueError(f"uncertainty: rate is {self.rate}; give one from 0 on")


class State(NamedTuple):
    """Task -> what is kept for it.

    Attributes:
      weights: given to its loss.
      halves: 1/2 for a squared loss, 1 for a cross-entropy.
      log_variances: s.
      moments: of their Adam.
    """

    weights: dict[str, Array]
    halves: dict[str, Array]
    log_variances: dict[str, Array]
    moments: dict[str, optax.OptState]


def uncertainty(options: Uncertainty) -> Balancer:
    """The balancer of some options."""

    def init(tasks, key, weights):
        del key
        halves = {
            name: 0.5 if loss == "squared" else 1.0 for name, loss in tasks.items()
        }
        start = balancer.filled(tasks, 0.0)
        return State(
            balancer.task_weights(tasks, weights),
            {name: jnp.asarray(half, jnp.float32) for name, half in halves.items()},
            start,
            balancer.adam_init(start),
        )

    def combine(losses, pull, state, *, masks, counts, step, learning_rate):
        del masks, step
        total = {
            name: state.weights[name]
            * state.halves[name]
            * jnp.exp(-state.log_variances[name])
            for name in losses
        }
        slopes = {name: 0.5 - total[name] * loss for name, loss in losses.items()}
        found, moments = balancer.adam_step(
            state.log_variances,
            slopes,
            state.moments,
            {name: counts[name] > 0 for name in losses},
            options.rate * learning_rate,
        )
        found = {name: jnp.clip(s, -LIMIT, LIMIT) for name, s in found.items()}
        gradients = pull(balancer.present(total, counts))
        return (
            gradients,
            state._replace(log_variances=found, moments=moments),
            total,
        )

    return Balancer(init, combine)
