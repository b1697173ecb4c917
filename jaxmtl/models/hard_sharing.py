"""Hard sharing: embeddings and crosses shared, an MLP of its own for each task.

LT4REC (Chen et al., 2022), Figure 2 and section 2.1, after ESMM's shared
embedding (Ma et al., 2018). The rival that shares the trunk as well is
`shared_trunk` without masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxmtl.keys import named
from jaxmtl.models.layers import MLP, Cross, crossed
from jaxmtl.types import Array, Features, Key, Model, Outputs, Params


def hard_sharing(
    tasks: Sequence[str], *, hidden: Sequence[int], cross: Cross = "elementwise"
) -> Model:
    """The model; its net is {"shared": {}, "tasks": {task: {mlp, head}}}."""
    mlp, head = MLP(tuple(hidden)), nn.Dense(1)

    def inputs(features: Features) -> Array:
        if features.own:
            raise ValueError(
                "hard sharing has no own views; got one for"
                f" {sorted(features.own)}: set model.own_dim to 0"
            )
        vector = crossed(features.shared, cross)
        return jnp.concatenate([vector, features.numeric], axis=1)

    def init(key: Key, features: Features) -> Params:
        vector, last = inputs(features), jnp.zeros((1, hidden[-1]))
        own = {
            task: {
                "mlp": mlp.init(named(key, task, "mlp"), vector)["params"],
                "head": head.init(named(key, task, "head"), last)["params"],
            }
            for task in tasks
        }
        return {"shared": {}, "tasks": own}

    def apply(net: Params, features: Features, *, key: Key | None = None) -> Outputs:
        del key  # nothing here is random
        vector, logits = inputs(features), {}
        for task in tasks:
            own = net["tasks"][task]
            top = mlp.apply({"params": own["mlp"]}, vector)
            logits[task] = head.apply({"params": own["head"]}, top)[:, 0]
        return Outputs(logits)

    return Model(init, apply)
