"""Adam whose updates, moments and decay stop at a gate.

Sparse sharing trains one net with a mask a task. A plain optimiser would keep
moving the other task's weights on their momentum in every step; here a weight
outside the step's gate keeps its value, its moments and its bias correction to
the bit.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmtl.types import Array, Params


class Moments(NamedTuple):
    """Adam's state over a net.

    Attributes:
      mean: first moments, like the net.
      square: second moments, like the net.
      decay1: b1 to the power of the number of updates, shaped like the gates:
        weights of one kernel may have been moved a different number of times,
        and a running product is far cheaper than a power for each weight.
      decay2: the same for b2.
    """

    mean: Params
    square: Params
    decay1: Params
    decay2: Params


class Adam(NamedTuple):
    """Hyper-parameters of gated Adam (Kingma and Ba, 2015).

    Attributes:
      learning_rate: step size; it and the weight decay may be traced.
      b1: decay of the first moments.
      b2: decay of the second moments.
      eps: added to the root of the second moments.
      weight_decay: decoupled (Loshchilov and Hutter, 2019), on kernels alone.
    """

    learning_rate: Array | float
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: Array | float = 0.0


def init(net: Params, gates: Params) -> Moments:
    """Empty moments; `gates` gives the shapes of the bias corrections."""
    zeros = jax.tree.map(jnp.zeros_like, net)
    ones = jax.tree.map(lambda w, g: jnp.ones(g.shape, w.dtype), net, gates)
    return Moments(
        zeros,
        jax.tree.map(jnp.zeros_like, net),
        ones,
        jax.tree.map(jnp.ones_like, ones),
    )


def update(
    adam: Adam, net: Params, moments: Moments, gradients: Params, gates: Params
) -> tuple[Params, Moments]:
    """One step on the weights whose gate is open; all others keep their bits.

    Args:
      adam: hyper-parameters.
      net: parameters.
      moments: state over `net`.
      gradients: like `net`.
      gates: bools that broadcast to the leaves of `net` (`masks.gates`).

    Returns:
      The new net and the new moments.
    """

    def leaf(path, w: Array, g: Array, gate, mean, square, decay1, decay2):
        decay1 = jnp.where(gate, decay1 * adam.b1, decay1)
        decay2 = jnp.where(gate, decay2 * adam.b2, decay2)
        mean = jnp.where(gate, adam.b1 * mean + (1 - adam.b1) * g, mean)
        square = jnp.where(gate, adam.b2 * square + (1 - adam.b2) * g * g, square)
        # A weight that never moved has decay 1: keep 0 / 0 out of the closed side.
        tiny = jnp.finfo(w.dtype).tiny
        unbiased = mean / jnp.maximum(1 - decay1, tiny)
        scale = jnp.sqrt(square / jnp.maximum(1 - decay2, tiny)) + adam.eps
        step = unbiased / scale
        if path[-1].key == "kernel":
            step = step + adam.weight_decay * w
        w = jnp.where(gate, w - adam.learning_rate * step, w)
        return w, mean, square, decay1, decay2

    stacked = jax.tree_util.tree_map_with_path(leaf, net, gradients, gates, *moments)
    parts = jax.tree.transpose(
        jax.tree.structure(net), jax.tree.structure((0,) * 5), stacked
    )
    return parts[0], Moments(*parts[1:])
