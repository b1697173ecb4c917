"""Adagrad: gradients over the root of the sum of their squares.

Duchi, Hazan and Singer, "Adaptive Subgradient Methods", JMLR 2011, section 1.1:
s <- s + g², direction g / sqrt(s + eps).
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_not_negative, check_positive


@dataclasses.dataclass(frozen=True)
class Adagrad:
    """Hyper-parameters.

    Attributes:
      start: the sum of squares before the first step.
      eps: added under the root.
    """

    start: float = 0.1
    eps: float = 1e-7

    def __post_init__(self):
        check_not_negative(self, "start")
        check_positive(self, "eps")


def adagrad(options: Adagrad) -> optax.GradientTransformation:
    """Adagrad's direction."""
    return optax.scale_by_rss(options.start, options.eps)
