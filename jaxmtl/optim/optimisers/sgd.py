"""SGD: the gradient itself, or its momentum.

Sutskever et al., "On the importance of initialization and momentum in deep learning",
ICML 2013: t <- momentum t + g, direction t; with Nesterov's, momentum t + g.
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_decays


@dataclasses.dataclass(frozen=True)
class Sgd:
    """Hyper-parameters.

    Attributes:
      momentum: decay of the sum of past gradients; 0 keeps none.
      nesterov: whether to look one step ahead.
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
        check_decays(self, "momentum")
        if self.nesterov and not self.momentum:
            raise ValueError(
                "Sgd.nesterov is True without momentum; give a momentum above 0"
            )


def sgd(options: Sgd) -> optax.GradientTransformation:
    """The gradient, or its momentum."""
    if not options.momentum:
        return optax.identity()
    return optax.trace(options.momentum, options.nesterov)
