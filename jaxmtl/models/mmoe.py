"""MMoE: experts that all tasks share, mixed by a gate of each task's own.

Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts", KDD 2018. Task k predicts y_k = h_k(f_k(x)) (eq. 6) with
f_k(x) = sum_i g_k(x)_i f_i(x) (eq. 7) and g_k(x) = softmax(W_gk x) (eq. 8); the
f_i are experts, the h_k towers. The baseline of the DCRNN paper.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxmtl.keys import named
from jaxmtl.layers.experts import Experts, Gate, check_experts
from jaxmtl.layers.mlp import FeatureLayer, Tower, refuse_own_views
from jaxmtl.types import Features, Key, Model, Outputs, Params, Task


@dataclasses.dataclass(frozen=True)
class Mmoe:
    """Hyper-parameters.

    Attributes:
      experts: how many; 8 in both papers.
      expert_hidden: widths of each expert; (128, 64) in the DCRNN paper.
      tower: widths of each task's tower, which the DCRNN paper does not give; may
        be empty: a head alone.
    """

    experts: int = 8
    expert_hidden: tuple[int, ...] = (128, 64)
    tower: tuple[int, ...] = (32,)

    def __post_init__(self):
        check_experts(self.experts, self.expert_hidden)


def mmoe(options: Mmoe, tasks: Sequence[Task], layer: FeatureLayer) -> Model:
    """The model; its net is {"shared": crosses, experts; "tasks": {task: …}}.

    A task's own part holds its gate, its tower's MLP and its head.
    """
    experts = Experts(options.experts, options.expert_hidden)
    gate, tower = Gate(), Tower(options.tower)

    def init(key: Key, features: Features) -> Params:
        refuse_own_views("MMoE", features)
        cross = layer.init(named(key, "cross"), features)
        vector = layer.apply(cross, features)
        start = experts.init(named(key, "experts"), vector)
        outputs, own = experts.apply(start, vector), {}
        for name in (task.name for task in tasks):
            gating = gate.init(named(key, name, "gate"), vector, outputs)
            top = tower.init(named(key, name, "tower"), outputs[0])
            own[name] = {"gate": gating["params"], **top["params"]}
        return {"shared": cross | {"experts": start["params"]}, "tasks": own}

    def apply(net: Params, features: Features, *, key: Key | None = None) -> Outputs:
        del key  # nothing here is random
        shared, logits = net["shared"], {}
        vector = layer.apply(shared, features)
        outputs = experts.apply({"params": shared["experts"]}, vector)
        for name in (task.name for task in tasks):
            own = net["tasks"][name]
            mixed = gate.apply({"params": own["gate"]}, vector, outputs)
            logits[name] = tower.apply({"params": own}, mixed)
        return Outputs(logits)

    return Model(init, apply)
