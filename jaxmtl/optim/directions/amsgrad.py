"""AMSGrad: Adam whose denominator never falls.

Reddi, Kale and Kumar, "On the Convergence of Adam and Beyond", ICLR 2018, Algorithm 2:
m and v as in Adam, direction (m / (1 - b1^t)) / (sqrt(max over steps of
v / (1 - b2^t)) + eps). The paper has no bias corrections; they are optax's.
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_decays, check_positive


@dataclasses.dataclass(frozen=True)
class Amsgrad:
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


def amsgrad(options: Amsgrad) -> optax.GradientTransformation:
    """AMSGrad's direction."""
    return optax.scale_by_amsgrad(options.b1, options.b2, options.eps)
