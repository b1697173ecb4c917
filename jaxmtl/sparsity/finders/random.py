"""Control: any weights fall, round by round.

A draw for each seed, task and round. What magnitude pruning gains over it is what the
size of weights knows (Frankle et al., "Pruning Neural Networks at Initialization",
ICLR 2021, section 4).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxmtl.keys import named
from jaxmtl.sparsity.finder import Finder
from jaxmtl.sparsity.masks import path_name
from jaxmtl.types import Array


@dataclasses.dataclass(frozen=True)
class Random:
    """It has no options."""


def random(options: Random) -> Finder:
    """Scores drawn from the key."""
    del options

    def score(net, mask, *, gradients, key):
        del net, gradients
        draw = lambda path, m: jax.random.uniform(named(key, path_name(path)), m.shape)
        return jax.tree_util.tree_map_with_path(draw, mask)

    return Finder(score, of_neuron=_of_any_weight)


def _of_any_weight(scores: Array, alive: Array) -> Array:
    """The draw of the first alive incoming weight: it is as good as any other.

    A mean of many draws would lie nearer to .5 in wide layers than in narrow ones.
    """
    first = jnp.argmax(alive, axis=0)
    return jnp.take_along_axis(scores, first[None], axis=0)[0]
