"""One MLP trunk over crossed embeddings, a head for each task.

LT4REC (Chen et al., 2022): with one task Figure 1, the single-task baseline;
with several and a mask each Figure 3, sparse sharing; with several and no masks
the trunk is hard-shared. The model knows no masks: `apply` is given the net as a
task sees it.

A task's own view (multi-view, section 2.2) enters the first layer through a
kernel of that task's alone, so it costs the other tasks nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxmtl.keys import named
from jaxmtl.layers.mlp import MLP, FeatureLayer
from jaxmtl.types import Features, Key, Model, Outputs, Params, Task


@dataclasses.dataclass(frozen=True)
class SharedTrunk:
    """Hyper-parameters: `hidden`, the widths of the trunk."""

    hidden: tuple[int, ...] = (512, 256, 128)


def shared_trunk(
    options: SharedTrunk, tasks: Sequence[Task], layer: FeatureLayer
) -> Model:
    """The model; its net is {"shared": crosses and trunk, "tasks": {task: …}}.

    A task's own part holds its head and, where it has an own view, its branch.
    """
    trunk, head = MLP(options.hidden), nn.Dense(1)
    branch = nn.Dense(options.hidden[0], use_bias=False)

    def view(features: Features, task: str):
        return layer.apply(
            {}, Features(features.own[task], {}, features.numeric[:, :0])
        )

    def init(key: Key, features: Features) -> Params:
        last, own = jnp.zeros((1, options.hidden[-1])), {}
        cross = layer.init(named(key, "cross"), features)
        if cross and features.own:
            raise ValueError(
                "an own view is crossed without parameters; set model.crossing.kind"
                " to elementwise, inner or none, or model.own-dims to nothing"
            )
        vector = layer.apply(cross, features)
        shared = cross | trunk.init(named(key, "trunk"), vector)["params"]
        for name in (task.name for task in tasks):
            own[name] = {"head": head.init(named(key, name, "head"), last)["params"]}
            if name in features.own:
                branch_key = named(key, name, "branch")
                parts = branch.init(branch_key, view(features, name))["params"]
                own[name]["branch"] = parts
        return {"shared": shared, "tasks": own}

    def apply(net: Params, features: Features, *, key: Key | None = None) -> Outputs:
        del key  # nothing here is random
        shared, logits = net["shared"], {}
        vector = layer.apply(shared, features)
        for name in (task.name for task in tasks):
            own, extra = net["tasks"][name], 0.0
            if name in features.own:
                extra = branch.apply({"params": own["branch"]}, view(features, name))
            top = trunk.apply({"params": shared}, vector, extra)
            logits[name] = head.apply({"params": own["head"]}, top)[:, 0]
        return Outputs(logits)

    return Model(init, apply)
