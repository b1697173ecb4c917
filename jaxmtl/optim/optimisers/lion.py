"""Lion: the sign of a mix of momentum and gradient.

Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023, Algorithm 2:
direction sign(b1 m + (1 - b1) g), then m <- b2 m + (1 - b2) g. Its rates are 3 to 10
times smaller than Adam's, its decays as much larger.
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import check_decays


@dataclasses.dataclass(frozen=True)
class Lion:
    """Hyper-parameters.

    Attributes:
      b1: weight of the momentum in the mix.
      b2: decay of the momentum.
    """

    b1: float = 0.9
    b2: float = 0.99

    def __post_init__(self):
        check_decays(self, "b1", "b2")


def lion(options: Lion) -> optax.GradientTransformation:
    """Lion's direction."""
    return optax.scale_by_lion(options.b1, options.b2)
