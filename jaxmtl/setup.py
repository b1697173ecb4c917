"""What a compiled program depends on besides the shapes of its arguments."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

from jaxmtl import losses, models, optim
from jaxmtl.data.batches import EVERY
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
      architecture: a name in `models.ARCHITECTURES`.
      hidden: widths of the MLP.
      cross: how field embeddings are crossed.
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
    """

    schema: Schema
    tasks: tuple[str, ...]
    architecture: str
    hidden: tuple[int, ...]
    cross: str
    dim: int
    adam: optim.Adam
    task_losses: tuple[tuple[str, str], ...]
    own_dims: tuple[tuple[str, int], ...] = ()
    init_scale: float = 0.05
    task_weights: tuple[tuple[str, float], ...] = ()
    summed: bool = False
    moving: Moving = "gated"
    conflict: Conflict | None = None

    def __post_init__(self):
        choices = {"architecture": models.ARCHITECTURES, "moving": get_args(Moving)}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is none of {list(known)}"
                )
        without = set(self.tasks) - set(dict(self.task_losses))
        if without:
            raise ValueError(f"no loss for {sorted(without)}; add it to task_losses")
        reserved = {SHARED, EVERY} & set(self.tasks)
        if reserved:
            raise ValueError(f"{sorted(reserved)} cannot name a task; rename it")

    def without_losses(self) -> Setup:
        """The setup with all that only gradients depend on set to one value.

        Starting and predicting do not depend on it, so rows that differ in it
        share those programs.
        """
        return dataclasses.replace(
            self, adam=optim.Adam(1.0), task_weights=(), conflict=None
        )

    @property
    def model(self) -> Model:
        make = models.ARCHITECTURES[self.architecture]
        return make(self.tasks, hidden=self.hidden, cross=self.cross)

    @property
    def kinds(self) -> dict[str, tuple[Task, ...]]:
        """Kind of step -> the tasks it trains."""
        tasks = tuple(self.schema.task(name) for name in self.tasks)
        return {EVERY: tasks} if self.summed else {t.name: (t,) for t in tasks}
