"""Yogi: Adam whose denominator changes by a step that does not grow with it.

Zaheer et al., "Adaptive Methods for Nonconvex Optimization", NeurIPS 2018, Algorithm 2:
m as in Adam, v <- v - (1 - b2) sign(v - g²) g², direction
(m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps). Moments start at 1e-6.
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_decays, check_positive


@dataclasses.dataclass(frozen=True)
class Yogi:
    """Hyper-parameters.

    Attributes:
      b1: decay of the mean of gradients.
      b2: 1 - b2 is the step of the squares.
      eps: added to the root.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-3

    def __post_init__(self):
        check_decays(self, "b1", "b2")
        check_positive(self, "eps")


def yogi(options: Yogi) -> optax.GradientTransformation:
    """Yogi's direction."""
    return optax.scale_by_yogi(options.b1, options.b2, options.eps)
