"""The learning rate rises in a straight line, then stays.

Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2. After t of T steps
the factor is start + (1 - start) min(t / T, 1), as `optax.linear_schedule` has it.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import optax

from jaxmtl.optim.options import check_fractions, check_steps


@dataclasses.dataclass(frozen=True)
class Warmup:
    """When it has risen.

    Attributes:
      steps: after which the factor is 1; 0 for none.
      start: the factor of the first step; with 0 it moves no weight, but moments.
    """

    steps: int = 1000
    start: float = 0.0

    def __post_init__(self):
        check_steps(self, "steps", least=0)
        check_fractions(self, "start")


def warmup(options: Warmup) -> optax.Schedule:
    """Count of steps -> float32 factor of the learning rate."""
    start, steps = options.start, options.steps

    def factor(count):
        count = jnp.asarray(count, jnp.float32)
        risen = jnp.minimum(count / steps, 1) if steps else jnp.ones_like(count)
        return start + (1 - start) * risen

    return factor
