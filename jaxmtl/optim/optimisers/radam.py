"""RAdam: Adam that leaves out its denominator while few squares have been seen.

Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020,
Algorithm 2: Adam's direction times the rectification r_t from the step on in which
the length rho_t of the running mean reaches 5; until then m / (1 - b1^t).
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import AdamOptions


@dataclasses.dataclass(frozen=True)
class Radam(AdamOptions):
    """Hyper-parameters: those of Adam."""


def radam(options: Radam) -> optax.GradientTransformation:
    """RAdam's direction."""
    return optax.scale_by_radam(options.b1, options.b2, options.eps)
