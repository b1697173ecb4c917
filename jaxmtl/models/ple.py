"""PLE: experts for each task beside shared ones, extracted level by level.

Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning
Model for Personalized Recommendations", RecSys 2020. At every level a task's gate
mixes its own experts and the shared ones (eq. 1 to 3), a tower reads the last
mixture (eq. 4 and 6), and each level's gates and experts read the mixtures of the
level before (eq. 5). The shared experts' input is mixed by a shared gate, which
sees the experts of **all** tasks. With one level it is CGC.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxmtl.keys import named
from jaxmtl.layers.experts import Experts, Gate, check_experts
from jaxmtl.layers.mlp import FeatureLayer, Tower, refuse_own_views
from jaxmtl.types import Array, Features, Key, Model, Outputs, Params, Task

SHARED = "shared"
"""The group of experts that belongs to no task; no task can be called so."""


@dataclasses.dataclass(frozen=True)
class Ple:
    """Hyper-parameters. The paper tunes the counts and widths of experts.

    Attributes:
      levels: extraction levels; 2 in the paper's experiments, 1 is CGC.
      shared_experts: at each level; without any there is no shared gate either.
      task_experts: of each task at each level; without any and with one level it
        is MMoE.
      expert_hidden: widths of each expert.
      tower: widths of each task's tower; may be empty: a head alone.
    """

    levels: int = 2
    shared_experts: int = 2
    task_experts: int = 2
    expert_hidden: tuple[int, ...] = (128, 64)
    tower: tuple[int, ...] = (32,)

    def __post_init__(self):
        check_experts(self.shared_experts + self.task_experts, self.expert_hidden)
        if self.levels < 1 or min(self.shared_experts, self.task_experts) < 0:
            raise ValueError(
                f"{self.levels} levels of {self.shared_experts} shared and"
                f" {self.task_experts} task experts; at least 1 level is needed, and"
                " no count below 0"
            )


class Extraction(nn.Module):
    """One level: group -> its input becomes group -> its mixture, [batch, out].

    Parameters are `<group>_experts` and `<group>_gate`. The last level has no
    shared gate: nothing would read its mixture.
    """

    counts: dict[str, int]
    hidden: Sequence[int]
    is_last: bool

    @nn.compact
    def __call__(self, inputs: dict[str, Array]) -> dict[str, Array]:
        outputs = {
            group: Experts(count, self.hidden, name=f"{group}_experts")(inputs[group])
            for group, count in self.counts.items()
            if count
        }
        mixtures = {}
        for group, x in inputs.items():
            if group == SHARED and self.is_last:
                continue
            seen = [
                outputs[g] for g in outputs if group == SHARED or g in (group, SHARED)
            ]
            mixtures[group] = Gate(name=f"{group}_gate")(x, jnp.concatenate(seen))
        return mixtures


def ple(options: Ple, tasks: Sequence[Task], layer: FeatureLayer) -> Model:
    """The model; its net is {"shared": crosses, levels; "tasks": {task: …}}.

    A level stands in `net["shared"]`, apart from what a task alone reads: its
    experts and gate of the last level, and its gate of the level before, whose
    mixture goes to no one else. They stand with its tower and head.
    """
    names, last = [task.name for task in tasks], options.levels - 1
    counts = dict.fromkeys(names, options.task_experts)
    if options.shared_experts:
        counts[SHARED] = options.shared_experts
    levels = [
        Extraction(counts, options.expert_hidden, is_last=i == last)
        for i in range(options.levels)
    ]
    tower = Tower(options.tower)

    def init(key: Key, features: Features) -> Params:
        refuse_own_views("PLE", features)
        shared = layer.init(named(key, "cross"), features)
        mixtures = dict.fromkeys(counts, layer.apply(shared, features))
        own = {name: {} for name in names}
        for i, level in enumerate(levels):
            called = f"level{i:02d}"
            start = level.init(named(key, called), mixtures)
            mixtures = level.apply(start, mixtures)
            shared[called], private = _split(start["params"], names, last - i)
            for name in names:
                own[name][called] = private[name]
        for name in names:
            top = tower.init(named(key, name, "tower"), mixtures[name])
            own[name] |= top["params"]
        return {"shared": shared, "tasks": own}

    def apply(net: Params, features: Features, *, key: Key | None = None) -> Outputs:
        del key  # nothing here is random
        mixtures = dict.fromkeys(counts, layer.apply(net["shared"], features))
        for i, level in enumerate(levels):
            called = f"level{i:02d}"
            parts = dict(net["shared"][called])
            for name in names:
                parts |= net["tasks"][name][called]
            mixtures = level.apply({"params": parts}, mixtures)
        return Outputs(
            {
                name: tower.apply({"params": net["tasks"][name]}, mixtures[name])
                for name in names
            }
        )

    return Model(init, apply)


def _split(parts: dict, names: Sequence[str], above: int) -> tuple[dict, dict]:
    """A level's parameters that several tasks read, and task -> those it alone does.

    Args:
      parts: of `Extraction`.
      names: of the tasks.
      above: how many levels follow.
    """
    alone = {0: ("experts", "gate"), 1: ("gate",)}.get(above, ())
    private = {
        name: {
            part: parts[part]
            for part in (f"{name}_{kind}" for kind in alone)
            if part in parts
        }
        for name in names
    }
    taken = {part for own in private.values() for part in own}
    return {part: parts[part] for part in parts if part not in taken}, private
