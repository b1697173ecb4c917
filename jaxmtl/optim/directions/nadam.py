"""Nadam: Adam that looks one step ahead, with Nesterov's momentum.

Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016, Algorithm 2:
m and v as in Adam, direction
(b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_decays, check_positive


@dataclasses.dataclass(frozen=True)
class Nadam:
    """Hyper-parameters.

    Attributes:
      b1: decay of the mean of gradients.
      b2: decay of the mean of their squares.
      eps: added to the root.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self):
        check_decays(self, "b1", "b2")
        check_positive(self, "eps")


def nadam(options: Nadam) -> optax.GradientTransformation:
    """Nadam's direction."""
    return optax.scale_by_adam(options.b1, options.b2, options.eps, nesterov=True)
