"""The smallest weights fall: |w|.

LT4REC (Chen et al., 2022), Algorithm 1, step (b); Frankle and Carbin, "The Lottery
Ticket Hypothesis", ICLR 2019. Neurons by `pruning.root_mean_square`.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxmtl.sparsity.finder import Finder, over
from jaxmtl.sparsity.pruning import root_mean_square


@dataclasses.dataclass(frozen=True)
class Magnitude:
    """It has no options."""


def magnitude(options: Magnitude) -> Finder:
    """|w| of each weight."""
    del options

    def score(net, mask, *, gradients, key):
        del gradients, key
        return over(mask, jnp.abs, net)

    return Finder(score, of_neuron=root_mean_square)
