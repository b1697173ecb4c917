"""Cross-stitch: an MLP for each task, their activations mixed after every layer.

Misra et al., "Cross-stitch Networks for Multi-task Learning", CVPR 2016. After each
layer, task A goes on with x̃_A = α_AA x_A + α_AB x_B (eq. 1 and 2), and so for every
task. The α of a layer are learned, one matrix [tasks, tasks] for all its units.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxmtl.keys import named
from jaxmtl.layers.mlp import FeatureLayer, refuse_own_views
from jaxmtl.types import Array, Features, Key, Model, Outputs, Params, Task


@dataclasses.dataclass(frozen=True)
class CrossStitch:
    """Hyper-parameters.

    Attributes:
      hidden: widths of each task's MLP; the paper's networks are of images.
      own: initial α of a task's own activations, in [0, 1]; the others share what
        is left to 1. The paper's best is .9.
    """

    hidden: tuple[int, ...] = (512, 256, 128)
    own: float = 0.9

    def __post_init__(self):
        if not 0 <= self.own <= 1:
            raise ValueError(
                f"own {self.own} lies outside [0, 1]; give the share of a task's own"
                " activations, such as 0.9"
            )


def cross_stitch(
    options: CrossStitch, tasks: Sequence[Task], layer: FeatureLayer
) -> Model:
    """The model; its net is {"shared": crosses, columns, stitch; "tasks": {task: …}}.

    A task's own part holds its head. `columns[task]` is a task's MLP, and
    `stitch["layer00"]["weight"][a, b]` what the a-th of `tasks` takes of the b-th.
    Every task reads all columns, so they are shared. The weights of a stitch are no
    kernels and never pruned.
    """
    names = [task.name for task in tasks]
    denses = {f"layer{i:02d}": nn.Dense(w) for i, w in enumerate(options.hidden)}
    head = nn.Dense(1)

    def init(key: Key, features: Features) -> Params:
        refuse_own_views("cross-stitch", features)
        cross = layer.init(named(key, "cross"), features)
        x, columns = layer.apply(cross, features), {name: {} for name in names}
        for called, dense in denses.items():
            for name in names:
                start = dense.init(named(key, name, called), x)
                columns[name][called] = start["params"]
            x = jnp.zeros((1, dense.features))
        stitch = {
            called: {"weight": _start_stitch(len(names), options.own)}
            for called in denses
        }
        own = {
            name: {"head": head.init(named(key, name, "head"), x)["params"]}
            for name in names
        }
        shared = cross | {"columns": columns, "stitch": stitch}
        return {"shared": shared, "tasks": own}

    def apply(net: Params, features: Features, *, key: Key | None = None) -> Outputs:
        del key  # nothing here is random
        shared = net["shared"]
        x = [layer.apply(shared, features)] * len(names)
        for called, dense in denses.items():
            columns = [
                nn.relu(dense.apply({"params": shared["columns"][name][called]}, given))
                for name, given in zip(names, x, strict=True)
            ]
            weight = shared["stitch"][called]["weight"]
            x = jnp.einsum("st,tbo->sbo", weight, jnp.stack(columns))
        logits = {}
        for name, top in zip(names, x, strict=True):
            parts = {"params": net["tasks"][name]["head"]}
            logits[name] = head.apply(parts, top)[:, 0]
        return Outputs(logits)

    return Model(init, apply)


def _start_stitch(tasks: int, own: float) -> Array:
    """[tasks, tasks] with `own` on the diagonal and rows that sum to 1."""
    if tasks == 1:
        return jnp.ones((1, 1))
    others = (1 - own) / (tasks - 1)
    return jnp.full((tasks, tasks), others) + (own - others) * jnp.eye(tasks)
