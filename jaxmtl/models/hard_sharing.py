"""Hard sharing: embeddings and crosses shared, an MLP of its own for each task.

LT4REC (Chen et al., 2022), Figure 2 and section 2.1, after ESMM's shared
embedding (Ma et al., 2018). The rival that shares the trunk as well is
`shared_trunk` without masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxmtl.keys import named
from jaxmtl.layers.mlp import MLP, FeatureLayer, refuse_own_views
from jaxmtl.types import Features, Key, Model, Outputs, Params, Task


@dataclasses.dataclass(frozen=True)
class HardSharing:
    """Hyper-parameters: `hidden`, the widths of each task's MLP."""

    hidden: tuple[int, ...] = (512, 256, 128)


def hard_sharing(
    options: HardSharing, tasks: Sequence[Task], layer: FeatureLayer
) -> Model:
    """The model; its net is {"shared": crosses, "tasks": {task: {mlp, head}}}."""
    mlp, head = MLP(options.hidden), nn.Dense(1)

    def init(key: Key, features: Features) -> Params:
        refuse_own_views("hard sharing", features)
        shared = layer.init(named(key, "cross"), features)
        vector = layer.apply(shared, features)
        last = jnp.zeros((1, options.hidden[-1]))
        own = {
            task.name: {
                "mlp": mlp.init(named(key, task.name, "mlp"), vector)["params"],
                "head": head.init(named(key, task.name, "head"), last)["params"],
            }
            for task in tasks
        }
        return {"shared": shared, "tasks": own}

    def apply(net: Params, features: Features, *, key: Key | None = None) -> Outputs:
        del key  # nothing here is random
        vector, logits = layer.apply(net["shared"], features), {}
        for task in tasks:
            own = net["tasks"][task.name]
            top = mlp.apply({"params": own["mlp"]}, vector)
            logits[task.name] = head.apply({"params": own["head"]}, top)[:, 0]
        return Outputs(logits)

    return Model(init, apply)
