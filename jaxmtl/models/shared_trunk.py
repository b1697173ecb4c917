"""One MLP trunk over crossed embeddings, a head for each task.

LT4REC (Chen et al., 2022): with one task Figure 1, the single-task baseline;
with several and a mask each Figure 3, sparse sharing; with several and no masks
the trunk is hard-shared. The model knows no masks: `apply` is given the net as a
task sees it.

A task's own view (multi-view, section 2.2) enters the first layer through a
kernel of that task's alone, so it costs the other tasks nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxmtl.keys import named
from jaxmtl.models.layers import MLP, Cross, crossed
from jaxmtl.types import Array, Features, Key, Model, Outputs, Params


def shared_trunk(
    tasks: Sequence[str], *, hidden: Sequence[int], cross: Cross = "elementwise"
) -> Model:
    """The model; its net is {"shared": trunk, "tasks": {task: head, own branch}}."""
    trunk, head = MLP(tuple(hidden)), nn.Dense(1)
    branch = nn.Dense(hidden[0], use_bias=False)

    def inputs(features: Features) -> Array:
        vector = crossed(features.shared, cross)
        return jnp.concatenate([vector, features.numeric], axis=1)

    def init(key: Key, features: Features) -> Params:
        last, own = jnp.zeros((1, hidden[-1])), {}
        shared = trunk.init(named(key, "trunk"), inputs(features))["params"]
        for task in tasks:
            own[task] = {"head": head.init(named(key, task, "head"), last)["params"]}
            if task in features.own:
                view = crossed(features.own[task], cross)
                branch_key = named(key, task, "branch")
                own[task]["branch"] = branch.init(branch_key, view)["params"]
        return {"shared": shared, "tasks": own}

    def apply(net: Params, features: Features, *, key: Key | None = None) -> Outputs:
        del key  # nothing here is random
        vector, logits = inputs(features), {}
        for task in tasks:
            own, extra = net["tasks"][task], 0.0
            if task in features.own:
                view = crossed(features.own[task], cross)
                extra = branch.apply({"params": own["branch"]}, view)
            top = trunk.apply({"params": net["shared"]}, vector, extra)
            logits[task] = head.apply({"params": own["head"]}, top)[:, 0]
        return Outputs(logits)

    return Model(init, apply)
