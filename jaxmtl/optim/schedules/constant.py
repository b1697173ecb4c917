"""The learning rate stays what it is."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class Constant:
    """It has no options."""


def constant(options: Constant) -> optax.Schedule:
    """Count of steps -> float32 factor of the learning rate, 1."""
    del options
    return lambda count: jnp.ones(jnp.shape(count), jnp.float32)
