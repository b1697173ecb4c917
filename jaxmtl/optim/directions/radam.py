"""RAdam: Adam that leaves out its denominator while few squares have been seen.

Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020,
Algorithm 2: Adam's direction times the rectification r_t from the step on in which
the length rho_t of the running mean reaches 5; until then m / (1 - b1^t).
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_decays, check_positive


@dataclasses.dataclass(frozen=True)
class Radam:
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


def radam(options: Radam) -> optax.GradientTransformation:
    """RAdam's direction."""
    return optax.scale_by_radam(options.b1, options.b2, options.eps)
