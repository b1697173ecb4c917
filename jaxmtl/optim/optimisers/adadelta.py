"""Adadelta: gradients in units of the weights' own steps.

Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, Algorithm 1:
E[g²] <- decay E[g²] + (1 - decay) g², direction
d = sqrt(E[d²] + eps) / sqrt(E[g²] + eps) g, E[d²] <- decay E[d²] + (1 - decay) d².
The paper's learning rate is 1.
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_decays, check_positive


@dataclasses.dataclass(frozen=True)
class Adadelta:
    """Hyper-parameters.

    Attributes:
      decay: of both means of squares.
      eps: added under both roots.
    """

    decay: float = 0.9
    eps: float = 1e-6

    def __post_init__(self):
        check_decays(self, "decay")
        check_positive(self, "eps")


def adadelta(options: Adadelta) -> optax.GradientTransformation:
    """Adadelta's direction."""
    return optax.scale_by_adadelta(options.decay, options.eps)
