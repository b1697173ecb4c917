"""What a compiled program depends on besides the shapes of its arguments."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

from jaxmtl import losses, models, optim, spaces
from jaxmtl.data.batches import EVERY
from jaxmtl.models.crossing import Crossing
from jaxmtl.spaces import Spaces
from jaxmtl.types import Array, Batch, Model, Schema, Task

SHARED = "shared"
"""Name of the stack of tables that all tasks read."""
Moving = Literal["gated", "per_task", "leaky"]


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Weights the CVR's loss on rows where the tasks' gradients disagree.

    Attributes:
      task: whose loss is weighted.
      factor: the weight of such a row.
      threshold: label under which a row is one; None = the rule by duration.
    """

    task: str
    factor: float
    threshold: float | None

    def row_weight(self, batch: Batch) -> Array:
        if self.threshold is None:
            return losses.duration_conflict(self.task, self.factor)(batch)
        rule = losses.threshold_conflict(self.task, self.factor, self.threshold)
        return rule(batch)

    def offset(self, task: Task) -> float:
        """What to add to a task's logits to undo the weights' shift of its odds.

        Of a binary task the rule by threshold weights every negative, so the
        weighted cross-entropy learns odds that are `factor` times too small (the
        focal loss, only roughly). No such correction exists for a continuous label:
        a row's weight depends on the label itself, and the prediction stays biased.
        """
        negatives_alone = self.threshold is not None and 0 < self.threshold <= 1
        if task.name == self.task and task.kind == "binary" and negatives_alone:
            return math.log(self.factor)
        return 0.0


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a program depends on. Hashable: equal setups share compilations.

    Attributes:
      schema: of the rows.
      tasks: names of the tasks trained and predicted.
      architecture: the hyper-parameters of one of `models.ARCHITECTURES`.
      crossing: how field embeddings are crossed.
      dim: width of the shared embeddings.
      own_dims: pairs of a task and the width of its own view.
      init_scale: standard deviation of the initial embeddings.
      adam: for the net; the tables follow its rates with lazy Adam.
      task_losses: pairs of a task and its loss.
      task_weights: pairs of a task and its weight in the sum of losses.
      summed: one step on the weighted sum (LT4REC, eq. 2) instead of
        alternating tasks. Adam does not see the scale of a single task's loss,
        so weights matter in a sum alone.
      moving: what a task's step may move. `gated`: its own subnetwork, one set
        of moments; `per_task`: the same, with moments for each task; `leaky`:
        everything, one plain Adam as in the authors' code.
      conflict: the row weights, or None.
      spaces: what a nested task's logits stand for (`spaces.Spaces`).
      positive_weights: pairs of a task and the weight of its positives.
      net_tasks: the tasks the net is built for, where they are more than those
        trained: a ticket is searched in the net that all tasks will share.
      masked: whether tasks see the net through masks. Without, one pass through
        the net serves all tasks of a step, and masks are None.
    """

    schema: Schema
    tasks: tuple[str, ...]
    architecture: models.Architecture
    crossing: Crossing
    dim: int
    adam: optim.Adam
    task_losses: tuple[tuple[str, str], ...]
    own_dims: tuple[tuple[str, int], ...] = ()
    init_scale: float = 0.05
    task_weights: tuple[tuple[str, float], ...] = ()
    summed: bool = False
    moving: Moving = "gated"
    conflict: Conflict | None = None
    spaces: Spaces = "own"
    positive_weights: tuple[tuple[str, float], ...] = ()
    net_tasks: tuple[str, ...] = ()
    masked: bool = True

    def __post_init__(self):
        choices = {"moving": get_args(Moving), "spaces": get_args(Spaces)}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is none of {list(known)}"
                )
        without = set(self.tasks) - set(dict(self.task_losses))
        if without:
            raise ValueError(f"no loss for {sorted(without)}; add it to task_losses")
        if type(self.architecture) not in models.ARCHITECTURES:
            known = [kind.__name__ for kind in models.ARCHITECTURES]
            raise ValueError(f"architecture {self.architecture!r} is none of {known}")
        reserved = {SHARED, EVERY} & set(self.tasks)
        if reserved:
            raise ValueError(f"{sorted(reserved)} cannot name a task; rename it")
        by_threshold = self.conflict and self.conflict.threshold is not None
        if by_threshold and self.spaces != "own":
            raise ValueError(
                f"the conflict's threshold weights rows of the space of"
                f" {self.conflict.task!r}, but spaces {self.spaces!r} trains it on all"
                " impressions; set training.spaces to own, or training.conflict-factor"
                " to 1"
            )
        if self.needs_funnel:
            self._check_funnel(getattr(self.architecture, "spaces", None))

    @property
    def needs_funnel(self) -> bool:
        """Whether the architecture itself says what its logits stand for."""
        return hasattr(self.architecture, "spaces") or self.spaces == "product"

    def _check_funnel(self, fixed: Spaces | None) -> None:
        name = self.architecture.name
        spaces.check_funnel(name, self.schema, self.tasks)
        if fixed is not None and self.spaces != fixed:
            raise ValueError(
                f"{name} learns spaces {fixed!r}, given is {self.spaces!r}; set"
                f" training.spaces to {fixed}"
            )
        if not self.summed:
            raise ValueError(
                f"{name} learns a task through those before it, in one step; set"
                " training.schedule to sum"
            )

    def without_losses(self) -> Setup:
        """The setup with all that only gradients depend on set to one value.

        Starting does not depend on it, so rows that differ in it share the program.
        """
        return dataclasses.replace(
            self,
            adam=optim.Adam(1.0),
            task_weights=(),
            conflict=None,
            positive_weights=(),
        )

    @property
    def model(self) -> Model:
        tasks = [self.schema.task(name) for name in self.net_tasks or self.tasks]
        return models.make(self.architecture, tasks, self.crossing)

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Kind of step -> the tasks it trains."""
        return {EVERY: self.tasks} if self.summed else {t: (t,) for t in self.tasks}

    @property
    def learned(self) -> dict[str, Task]:
        """Name -> the task whose labels and rows its loss takes, its joint one or
        itself; also what validation judges it by."""
        tasks = {name: self.schema.task(name) for name in self.tasks}
        if self.spaces == "own":
            return tasks
        return {
            name: spaces.joint_task(task) if spaces.is_nested(task) else task
            for name, task in tasks.items()
        }
