"""OMoE: a mixture of experts with one gate for all tasks.

Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts", KDD 2018, section 3.2: the mixture y = sum_i g(x)_i f_i(x)
(eq. 5) stands where the shared bottom of eq. 1 does. MMoE's control: the tasks
cannot weigh the experts differently.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxmtl.keys import named
from jaxmtl.layers.experts import Experts, Gate, check_experts
from jaxmtl.layers.mlp import FeatureLayer, Tower, refuse_own_views
from jaxmtl.types import Features, Key, Model, Outputs, Params, Task


@dataclasses.dataclass(frozen=True)
class Omoe:
    """Hyper-parameters; the defaults are those of `Mmoe`, which it is a control of.

    Attributes:
      experts: how many; 8 in the paper.
      expert_hidden: widths of each expert.
      tower: widths of each task's tower; may be empty: a head alone.
    """

    experts: int = 8
    expert_hidden: tuple[int, ...] = (128, 64)
    tower: tuple[int, ...] = (32,)

    def __post_init__(self):
        check_experts(self.experts, self.expert_hidden)


def omoe(options: Omoe, tasks: Sequence[Task], layer: FeatureLayer) -> Model:
    """The model; its net is {"shared": crosses, experts, gate; "tasks": {task: …}}.

    A task's own part holds its tower's MLP and its head.
    """
    experts = Experts(options.experts, options.expert_hidden)
    gate, tower = Gate(), Tower(options.tower)

    def init(key: Key, features: Features) -> Params:
        refuse_own_views("OMoE", features)
        cross = layer.init(named(key, "cross"), features)
        vector = layer.apply(cross, features)
        start = experts.init(named(key, "experts"), vector)
        outputs = experts.apply(start, vector)
        gating = gate.init(named(key, "gate"), vector, outputs)
        own = {
            task.name: tower.init(named(key, task.name, "tower"), outputs[0])["params"]
            for task in tasks
        }
        mixture = {"experts": start["params"], "gate": gating["params"]}
        return {"shared": cross | mixture, "tasks": own}

    def apply(net: Params, features: Features, *, key: Key | None = None) -> Outputs:
        del key  # nothing here is random
        shared = net["shared"]
        vector = layer.apply(shared, features)
        outputs = experts.apply({"params": shared["experts"]}, vector)
        mixed = gate.apply({"params": shared["gate"]}, vector, outputs)
        return Outputs(
            {
                task.name: tower.apply({"params": net["tasks"][task.name]}, mixed)
                for task in tasks
            }
        )

    return Model(init, apply)
