"""RMSProp: gradients over the root of the mean of their squares.

Tieleman and Hinton, "Neural Networks for Machine Learning", lecture 6.5, 2012:
v <- decay v + (1 - decay) g², direction g / sqrt(v + eps) or g / (sqrt(v) + eps),
with momentum their sum t <- momentum t + direction.
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_decays, check_positive


@dataclasses.dataclass(frozen=True)
class Rmsprop:
    """Hyper-parameters.

    Attributes:
      decay: of the mean of squares; 0.99 in PyTorch.
      eps: added under the root.
      momentum: decay of the sum of past directions; 0 keeps none.
      eps_outside: adds eps to the root instead, as PyTorch does.
    """

    decay: float = 0.9
    eps: float = 1e-8
    momentum: float = 0.0
    eps_outside: bool = False

    def __post_init__(self):
        check_decays(self, "decay", "momentum")
        check_positive(self, "eps")


def rmsprop(options: Rmsprop) -> optax.GradientTransformation:
    """RMSProp's direction."""
    scale = optax.scale_by_rms(
        options.decay, options.eps, eps_in_sqrt=not options.eps_outside
    )
    if not options.momentum:
        return scale
    return optax.chain(scale, optax.trace(options.momentum))
