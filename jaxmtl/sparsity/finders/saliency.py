"""What the loss would feel least falls: |w · ∂L/∂w|.

Lee, Ajanthan and Torr, "SNIP: Single-shot Network Pruning based on Connection
Sensitivity", ICLR 2019, eq. 5, with L the task's mean loss over some training batches.
There it is taken once, at initialisation; here after each round's training.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxmtl.sparsity.finder import Finder, over


@dataclasses.dataclass(frozen=True)
class Saliency:
    """
    Attributes:
      batches: of the training split, over which the loss is a mean.
    """

    batches: int = 8


def saliency(options: Saliency) -> Finder:
    """|w · ∂L/∂w| of each weight.

    Raises:
      ValueError: there is no batch to take a gradient of.
    """
    if options.batches < 1:
        raise ValueError(
            f"saliency.batches is {options.batches}; a gradient takes 1 or more"
        )

    def score(net, mask, *, gradients, key):
        del key
        return over(mask, lambda w, g: jnp.abs(w * g), net, gradients)

    return Finder(score, batches=options.batches)
