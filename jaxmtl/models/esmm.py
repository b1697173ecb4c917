"""ESMM: conversion learned over all impressions, through a product.

Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating
Post-Click Conversion Rate", SIGIR 2018. As a net it is hard sharing: the tasks
share embeddings and each has an MLP of its own (Figure 2). What is new is the
loss: no task is trained on the rows of its own space alone; each one's
probability is multiplied by those of the tasks before it,
pCTCVR = pCTR · pCVR (eq. 1), and the product meets its label on every impression
(eq. 3). The net returns each task's **conditional** logit (pCTR, pCVR); products,
losses over the entire space and all outputs follow from `spaces = "product"`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from jaxmtl.layers.mlp import FeatureLayer, refuse_own_views
from jaxmtl.models.hard_sharing import HardSharing, hard_sharing
from jaxmtl.types import Features, Key, Model, Params, Task


@dataclasses.dataclass(frozen=True)
class Esmm:
    """Hyper-parameters: `hidden`, the widths of each task's MLP, the paper's.

    The tasks must form a funnel: the space of each is `impression` or another of
    them, and labels lie in [0, 1].
    """

    spaces: ClassVar[str] = "product"
    hidden: tuple[int, ...] = (360, 200, 80)


def esmm(options: Esmm, tasks: Sequence[Task], layer: FeatureLayer) -> Model:
    """The model; its net is {"shared": crosses, "tasks": {task: {mlp, head}}}."""
    towers = hard_sharing(HardSharing(options.hidden), tasks, layer)

    def init(key: Key, features: Features) -> Params:
        refuse_own_views("ESMM", features)
        return towers.init(key, features)

    return Model(init, towers.apply)
