"""AdaMax: Adam with the largest gradient in the place of the root of the mean square.

Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, Algorithm 2:
m <- b1 m + (1 - b1) g, u <- max(b2 u, |g| + eps), direction (m / (1 - b1^t)) / u.
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_decays, check_positive


@dataclasses.dataclass(frozen=True)
class Adamax:
    """Hyper-parameters.

    Attributes:
      b1: decay of the mean of gradients.
      b2: decay of the largest gradient.
      eps: added to the size of a gradient.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self):
        check_decays(self, "b1", "b2")
        check_positive(self, "eps")


def adamax(options: Adamax) -> optax.GradientTransformation:
    """AdaMax's direction."""
    return optax.scale_by_adamax(options.b1, options.b2, options.eps)
