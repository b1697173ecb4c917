"""Shared-bottom: one MLP that all tasks read, a tower for each of them.

Caruana, "Multitask Learning", Machine Learning 28, 1997; in the form of Ma et al.,
KDD 2018, eq. 1: y_k = h_k(f(x)), f the bottom and h_k the tower of task k. With
towers of a head alone it is `shared_trunk` without masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxmtl.keys import named
from jaxmtl.layers.mlp import MLP, FeatureLayer, Tower, refuse_own_views
from jaxmtl.types import Features, Key, Model, Outputs, Params, Task


@dataclasses.dataclass(frozen=True)
class SharedBottom:
    """Hyper-parameters; the papers leave the widths to the data set.

    Attributes:
      hidden: widths of the bottom.
      tower: widths of each task's tower; may be empty: a head alone.
    """

    hidden: tuple[int, ...] = (512, 256, 128)
    tower: tuple[int, ...] = (32,)


def shared_bottom(
    options: SharedBottom, tasks: Sequence[Task], layer: FeatureLayer
) -> Model:
    """The model; its net is {"shared": crosses, bottom; "tasks": {task: tower}}."""
    bottom, tower = MLP(options.hidden), Tower(options.tower)

    def init(key: Key, features: Features) -> Params:
        refuse_own_views("shared-bottom", features)
        cross = layer.init(named(key, "cross"), features)
        vector = layer.apply(cross, features)
        start = bottom.init(named(key, "bottom"), vector)
        top = bottom.apply(start, vector)
        own = {
            task.name: tower.init(named(key, task.name, "tower"), top)["params"]
            for task in tasks
        }
        return {"shared": cross | {"bottom": start["params"]}, "tasks": own}

    def apply(net: Params, features: Features, *, key: Key | None = None) -> Outputs:
        del key  # nothing here is random
        vector = layer.apply(net["shared"], features)
        top = bottom.apply({"params": net["shared"]["bottom"]}, vector)
        return Outputs(
            {
                task.name: tower.apply({"params": net["tasks"][task.name]}, top)
                for task in tasks
            }
        )

    return Model(init, apply)
