"""AITM: each step of a funnel receives what the step before it has learned.

Xi et al., "Modeling the Sequential Dependence among Audience Multi-step Conversions
with Multi-task Learning in Targeted Display Advertising", KDD 2021. Task t has a
tower q_t over shared embeddings; the transfer module attends over q_t and
p_{t−1} = g(z_{t−1}), what the task before passes on:

  z_t = Σ_u w_u h1(u),   w_u = softmax_u(<h2(u), h3(u)> / √k),   u in {p_{t−1}, q_t}

with k the width of z and h1, h2, h3 linear; z_t = q_t where nothing comes before.
The head turns z_t into the probability that the funnel is gone through **up to** t,
on any impression. It cannot rise along the funnel: where it does, the behavioural
expectation calibrator adds α · mean max(ŷ_t − ŷ_{t−1}, 0) to the loss.

The authors' code settles that g is one layer with ReLU and h1 to h3 have no bias.
Its dropout is left out, as from every model here.
"""

from __future__ import annotations

import dataclasses
import graphlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxmtl.keys import named
from jaxmtl.layers.mlp import MLP, FeatureLayer, refuse_own_views
from jaxmtl.types import Array, Features, Key, Model, Outputs, Params, Task


@dataclasses.dataclass(frozen=True)
class Aitm:
    """Hyper-parameters, of the paper's code and its best setting.

    The task before another is the one its `space` names, so the funnel may branch.
    Logits are of the joint event over all impressions, so that a CVR among clicks is
    a quotient of two predictions, clipped to 1 (`jaxmtl.training.outputs.predictions`).

    Attributes:
      hidden: widths of each task's tower.
      calibrator_weight: of the calibrator in the loss (α); 0 turns it off.
    """

    spaces: ClassVar[str] = "impression"
    hidden: tuple[int, ...] = (128, 64, 32)
    calibrator_weight: float = 0.6

    def __post_init__(self):
        if not self.calibrator_weight >= 0:
            raise ValueError(
                f"calibrator-weight {self.calibrator_weight} would reward chances that"
                " rise along the funnel; give 0 or more"
            )


class Transfer(nn.Module):
    """The transfer module: z of the task before and q of this one -> its z."""

    @nn.compact
    def __call__(self, before: Array, own: Array) -> Array:
        width = own.shape[-1]
        passed = nn.relu(nn.Dense(width, name="info")(before))
        inputs = jnp.stack([passed, own], axis=1)
        value, key, query = (
            nn.Dense(width, use_bias=False, name=name)(inputs)
            for name in ("h1", "h2", "h3")
        )
        weights = nn.softmax(jnp.sum(key * query, axis=2) / jnp.sqrt(width))
        return jnp.sum(weights[:, :, None] * value, axis=1)


def aitm(options: Aitm, tasks: Sequence[Task], layer: FeatureLayer) -> Model:
    """The model; its net is {"shared": crosses, towers, "tasks": {task: head}}.

    Towers and transfers serve every task further down, so they are shared: those of
    task `t` stand in `net["shared"]["towers"][t]`.

    Its `aux_loss` is the calibrator, on chances as they are reported: a weight on the
    positives, which differs between tasks, would make them rise along the funnel.

    Raises:
      ValueError: the spaces of the tasks form a circle.
    """
    names = [task.name for task in tasks]
    before = {task.name: task.space for task in tasks if task.space in names}
    links = {name: [before[name]] if name in before else [] for name in names}
    order = list(graphlib.TopologicalSorter(links).static_order())
    mlp, transfer, head = MLP(options.hidden), Transfer(), nn.Dense(1)

    def init(key: Key, features: Features) -> Params:
        refuse_own_views("AITM", features)
        cross = layer.init(named(key, "cross"), features)
        vector = layer.apply(cross, features)
        towers, own, z = {}, {}, jnp.zeros((1, options.hidden[-1]))
        for name in names:
            towers[name] = mlp.init(named(key, name, "mlp"), vector)["params"]
            if name in before:
                passing = transfer.init(named(key, name, "transfer"), z, z)
                towers[name] |= passing["params"]
            own[name] = {"head": head.init(named(key, name, "head"), z)["params"]}
        return {"shared": cross | {"towers": towers}, "tasks": own}

    def apply(net: Params, features: Features, *, key: Key | None = None) -> Outputs:
        del key  # nothing here is random
        vector = layer.apply(net["shared"], features)
        z, logits = {}, {}
        for name in order:
            tower = {"params": net["shared"]["towers"][name]}
            z[name] = mlp.apply(tower, vector)
            if name in before:
                z[name] = transfer.apply(tower, z[before[name]], z[name])
            parts = {"params": net["tasks"][name]["head"]}
            logits[name] = head.apply(parts, z[name])[:, 0]
        return Outputs(logits)

    def aux_loss(logits: Mapping[str, Array], valid: Array) -> Array:
        chance = {name: nn.sigmoid(logit) for name, logit in logits.items()}
        rises = [nn.relu(chance[name] - chance[before[name]]) for name in before]
        excess = sum(jnp.sum(rise, where=valid) for rise in rises)
        return options.calibrator_weight * excess / jnp.maximum(jnp.sum(valid), 1)

    return Model(init, apply, aux_loss)
