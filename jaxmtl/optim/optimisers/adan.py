"""Adan: Adam with Nesterov's momentum from differences of gradients.

Xie et al., "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep
Models", IEEE TPAMI 2024, Algorithm 1, with optax's bias corrections:
m <- b1 m + (1 - b1) g, d <- b2 d + (1 - b2) (g - g'), where g' was the last gradient,
n <- b3 n + (1 - b3) (g + (1 - b2) (g - g'))², direction
(m + (1 - b2) d) / (sqrt(n + eps) + eps). The paper's b are 1 - b here.
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_decays, check_positive


@dataclasses.dataclass(frozen=True)
class Adan:
    """Hyper-parameters.

    Attributes:
      b1: decay of the mean of gradients.
      b2: decay of the mean of their differences.
      b3: decay of the mean of squares.
      eps: added to the mean of squares, and to its root.
    """

    b1: float = 0.98
    b2: float = 0.92
    b3: float = 0.99
    eps: float = 1e-8

    def __post_init__(self):
        check_decays(self, "b1", "b2", "b3")
        check_positive(self, "eps")


def adan(options: Adan) -> optax.GradientTransformation:
    """Adan's direction."""
    eps = options.eps
    return optax.scale_by_adan(options.b1, options.b2, options.b3, eps, eps_root=eps)
