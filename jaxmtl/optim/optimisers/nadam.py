"""Nadam: Adam that looks one step ahead, with Nesterov's momentum.

Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016, Algorithm 2:
m and v as in Adam, direction
(b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import AdamOptions


@dataclasses.dataclass(frozen=True)
class Nadam(AdamOptions):
    """Hyper-parameters: those of Adam."""


def nadam(options: Nadam) -> optax.GradientTransformation:
    """Nadam's direction."""
    return optax.scale_by_adam(options.b1, options.b2, options.eps, nesterov=True)
