"""AdaBelief: steps are large where gradients are what their mean foretold.

Zhuang et al., "AdaBelief Optimizer", NeurIPS 2020, Algorithm 2:
m <- b1 m + (1 - b1) g, s <- b2 s + (1 - b2) (g - m)² + eps, direction
(m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + eps).
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_decays, check_positive


@dataclasses.dataclass(frozen=True)
class Adabelief:
    """Hyper-parameters.

    Attributes:
      b1: decay of the mean of gradients.
      b2: decay of the mean of squared surprises.
      eps: added to the mean of squared surprises, and to its root.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-16

    def __post_init__(self):
        check_decays(self, "b1", "b2")
        check_positive(self, "eps")


def adabelief(options: Adabelief) -> optax.GradientTransformation:
    """AdaBelief's direction."""
    eps = options.eps
    return optax.scale_by_belief(options.b1, options.b2, eps, eps_root=eps)
