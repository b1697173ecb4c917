"""The learning rate falls along half a cosine, after a warm-up if wanted.

Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR
2017, eq. 5, without restarts. After t of T steps beyond the warm-up the factor is
end + (1 - end) (1 + cos(pi t / T)) / 2; from T on it stays `end`.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import optax

from jaxmtl.optim.options import check_fractions, check_steps
from jaxmtl.optim.schedules.warmup import Warmup, warmup


@dataclasses.dataclass(frozen=True)
class Cosine:
    """Where it falls to, and when.

    Attributes:
      steps: after which the factor is `end`, those of the warm-up included.
      warmup: steps in which it first rises from 0 in a straight line.
      end: the last factor.
    """

    steps: int = 10_000
    warmup: int = 0
    end: float = 0.0

    def __post_init__(self):
        check_steps(self, "steps", least=1)
        check_steps(self, "warmup", least=0)
        check_fractions(self, "end")
        if self.warmup >= self.steps:
            raise ValueError(
                f"Cosine.warmup is {self.warmup} of Cosine.steps = {self.steps}; the"
                " warm-up is part of the steps: give fewer, or more steps"
            )


def cosine(options: Cosine) -> optax.Schedule:
    """Count of steps -> float32 factor of the learning rate."""
    end, steps = options.end, options.steps - options.warmup

    def fall(count):
        fraction = jnp.clip(jnp.asarray(count, jnp.float32) / steps, 0, 1)
        return end + (1 - end) * (1 + jnp.cos(jnp.pi * fraction)) / 2

    rise = warmup(Warmup(options.warmup))
    return optax.join_schedules([rise, fall], [options.warmup])
