"""AMSGrad: Adam whose denominator never falls.

Reddi, Kale and Kumar, "On the Convergence of Adam and Beyond", ICLR 2018, Algorithm 2:
m and v as in Adam, direction (m / (1 - b1^t)) / (sqrt(max over steps of
v / (1 - b2^t)) + eps). The paper has no bias corrections; they are optax's.
"""

from __future__ import annotations

import dataclasses

import optax

from jaxmtl.optim.options import AdamOptions


@dataclasses.dataclass(frozen=True)
class Amsgrad(AdamOptions):
    """Hyper-parameters: those of Adam."""


def amsgrad(options: Amsgrad) -> optax.GradientTransformation:
    """AMSGrad's direction."""
    return optax.scale_by_amsgrad(options.b1, options.b2, options.eps)
