"""What training costs: trainings, multiply-adds of the weights kept, seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax

from jaxmtl.sparsity import masks
from jaxmtl.training.spec import Setup
from jaxmtl.types import Mask, Params

BACKWARD = 3
"""A training step's products over a forward pass's: it and two of its size back."""


class Cost(NamedTuple):
    """What a day took.

    Attributes:
      trainings: runs of training, of whatever length.
      work: multiply-adds that the weights kept ask for; a dense program does more.
      seconds: measured, compilation included where a day compiles.
    """

    trainings: int = 0
    work: float = 0.0
    seconds: float = 0.0

    def plus(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


def work_of(
    setup: Setup,
    net: Params,
    task_masks: Mapping[str, Mask | None],
    rows: Mapping[str, int],
) -> float:
    """Multiply-adds of an epoch over `rows` of each kind, by the weights kept."""
    return float(
        BACKWARD
        * sum(
            rows[kind] * sum(weights_read(net, task_masks[t], t) for t in names)
            for kind, names in setup.kinds.items()
        )
    )


def weights_read(net: Params, mask: Mask | None, task: str) -> int:
    """Weights of the kernels on a task's path that its mask keeps."""
    path = {"shared": net["shared"], "own": net["tasks"][task]}
    leaves = jax.tree_util.tree_leaves_with_path(path)
    every = sum(leaf.size for way, leaf in leaves if way[-1].key == "kernel")
    full = masks.full(net, task)
    if mask is None:
        return every
    part = lambda tree: {"shared": tree["shared"], "own": tree["tasks"][task]}
    return every - masks.count(part(full)) + masks.count(part(mask))
