"""Fixed weights: the gradient of the weighted sum of losses.

LT4REC (Chen et al., 2022), eq. (2), where the CVR's loss has a weight: L = Σ_t w_t L_t.
The weights are numbers in the state, so another weight compiles nothing.
"""

from __future__ import annotations

import dataclasses

from jaxmtl.balancing import balancer
from jaxmtl.balancing.balancer import Balancer


@dataclasses.dataclass(frozen=True)
class Fixed:
    """It has no options: weights are given to tasks, whatever the balancer."""


def fixed(options: Fixed) -> Balancer:
    """The balancer; its state is the weights."""
    del options

    def init(tasks, key, weights):
        del key
        return balancer.task_weights(tasks, weights)

    def combine(losses, pull, state, *, masks, counts, step, learning_rate):
        del masks, step, learning_rate
        gradients = pull(balancer.present(state, counts))
        return gradients, state, {name: state[name] for name in losses}

    return Balancer(init, combine, schedules=("sum", "alternate"))
