"""Adam: the mean of gradients over the root of the mean of their squares.

Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, Algorithm 1:
m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g², direction
(m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).

`optax.scale_by_adam` is the same. Here b1^t and b2^t are running products, far cheaper
than a power for each weight where each has a count t of its own, and the direction is
that of the state which stays: a program that overwrites its state then need not copy
it first, which takes as long again.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmtl.optim.chain import Gated
from jaxmtl.optim.options import AdamOptions
from jaxmtl.types import Array, Params


@dataclasses.dataclass(frozen=True)
class Adam(AdamOptions):
    """Hyper-parameters."""


class Moments(NamedTuple):
    """Adam's state.

    Attributes:
      mean: of gradients, like the net.
      square: of their squares, like the net.
      decay1: b1^t after t updates.
      decay2: b2^t.
    """

    mean: Params
    square: Params
    decay1: Array
    decay2: Array


def adam(options: Adam) -> optax.GradientTransformation:
    """Adam's direction."""
    b1, b2, eps = options.b1, options.b2, options.eps

    def init(net):
        one = jnp.ones((), jnp.result_type(jnp.float32, *jax.tree.leaves(net)))
        zeros = lambda: jax.tree.map(jnp.zeros_like, net)
        return Moments(zeros(), zeros(), one, one)

    def update(gradients, state, net=None, *, gates=True, **others):
        del net, others

        def leaf(g, mean, square):
            mean = jnp.where(gates, b1 * mean + (1 - b1) * g, mean)
            return mean, jnp.where(gates, b2 * square + (1 - b2) * g * g, square)

        both = jax.tree.map(leaf, gradients, state.mean, state.square)
        mean, square = jax.tree.transpose(
            jax.tree.structure(gradients), jax.tree.structure((0, 0)), both
        )
        decay1 = jnp.where(gates, state.decay1 * b1, state.decay1)
        decay2 = jnp.where(gates, state.decay2 * b2, state.decay2)
        # A weight that never moved has decay 1: keep 0 / 0 out of the closed side.
        tiny = jnp.finfo(decay1.dtype).tiny
        rest1, rest2 = jnp.maximum(1 - decay1, tiny), jnp.maximum(1 - decay2, tiny)
        direction = jax.tree.map(
            lambda m, v: (m / rest1) / (jnp.sqrt(v / rest2) + eps), mean, square
        )
        return direction, Moments(mean, square, decay1, decay2)

    return Gated(init, update)
