"""The learning rate falls by a constant ratio, after a warm-up if wanted.

After t steps beyond the warm-up the factor is max(rate^(t / every), end); in a
staircase, with the whole part of t / every.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import optax

from jaxmtl.optim.options import check_fractions, check_positive, check_steps
from jaxmtl.optim.schedules.warmup import Warmup, warmup


@dataclasses.dataclass(frozen=True)
class Exponential:
    """How fast it falls.

    Attributes:
      rate: what the factor is multiplied by in `every` steps.
      every: how many.
      staircase: whether it falls at every so many steps, not in each.
      warmup: steps in which it first rises from 0 in a straight line.
      end: where it stops falling.
    """

    rate: float = 0.96
    every: int = 1000
    staircase: bool = False
    warmup: int = 0
    end: float = 0.0

    def __post_init__(self):
        check_positive(self, "rate")
        check_fractions(self, "rate", "end")
        check_steps(self, "every", least=1)
        check_steps(self, "warmup", least=0)


def exponential(options: Exponential) -> optax.Schedule:
    """Count of steps -> float32 factor of the learning rate."""

    def fall(count):
        count = jnp.maximum(count, 0)
        # Whole numbers: a quotient of float32 may lie below the step it has reached.
        times = count // options.every if options.staircase else count / options.every
        factor = jnp.float32(options.rate) ** jnp.asarray(times, jnp.float32)
        return jnp.maximum(factor, options.end)

    rise = warmup(Warmup(options.warmup))
    return optax.join_schedules([rise, fall], [options.warmup])
