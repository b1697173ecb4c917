"""What a compiled program depends on besides the shapes of its arguments."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
from jax.sharding import Mesh

from jaxmtl import losses, models, optim, spaces
from jaxmtl.data.batches import EVERY
from jaxmtl.models.crossing import Crossing
from jaxmtl.spaces import Spaces
from jaxmtl.tables import row_optim
from jaxmtl.types import Array, Batch, Model, Schema, Task

SHARED = "shared"
"""Name of the stack of tables that all tasks read."""
Moving = Literal["gated", "per_task", "leaky"]
Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Weights the CVR's loss on rows where the tasks' gradients disagree.

    Attributes:
      task: whose loss is weighted.
      factor: the weight of such a row; may be traced.
      threshold: label under which a row is one; None = the rule by duration.
    """

    task: str
    factor: Array | float
    threshold: float | None

    def row_weight(self, batch: Batch) -> Array:
        if self.threshold is None:
            return losses.duration_conflict(self.task, self.factor)(batch)
        rule = losses.threshold_conflict(self.task, self.factor, self.threshold)
        return rule(batch)

    def shifts(self, task: Task) -> bool:
        """Whether the weights shift a task's odds in a way that can be undone.

        Of a binary task the rule by threshold weights every negative, so the
        weighted loss, log or focal, learns odds that are `factor` times too small.
        No such correction exists for a continuous label:
        a row's weight depends on the label itself, and the prediction stays biased.
        """
        negatives_alone = self.threshold is not None and 0 < self.threshold <= 1
        return task.name == self.task and task.kind == "binary" and negatives_alone

    def offset(self, task: Task) -> Array | float:
        """What to add to a task's logits to undo the weights' shift of its odds."""
        return jnp.log(self.factor) if self.shifts(task) else 0.0


class Numbers(NamedTuple):
    """What a program takes as an argument: another value compiles nothing again.

    Attributes:
      learning_rate: of the net.
      table_learning_rate: of the tables.
      weight_decay: of the net's kernels.
      task_weights: task -> its weight in the sum of losses.
      positive_weights: task -> the weight of its positives, where that is not 1.
      conflict_factor: of the conflict, None without one.
    """

    learning_rate: Array | float
    table_learning_rate: Array | float
    weight_decay: Array | float
    task_weights: dict[str, Array | float]
    positive_weights: dict[str, Array | float]
    conflict_factor: Array | float | None


PLACEHOLDER = 2.0
"""Stands in a structure where there is a number, whatever its value."""


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
      adam: for the net; tables under an Adam share its b1, b2 and eps.
      task_losses: pairs of a task and its loss.
      task_weights: pairs of a task and its weight in the sum of losses.
      summed: one step on the weighted sum (LT4REC, eq. 2) instead of
        alternating tasks. Only a sum weighs the tasks as eq. 2 says: Adam divides a
        step by the size of the gradients in its moments, so that by turns a task's
        scale cancels, or tells on the other where they share moments.
      moving: what a task's step may move. `gated`: its own subnetwork, one set
        of moments; `per_task`: the same, with moments for each task; `leaky`:
        everything, one plain Adam as in the authors' code.
      conflict: the row weights, or None.
      spaces: what a nested task's logits stand for (`spaces.Spaces`).
      positive_weights: pairs of a task and the weight of its positives.
      net_tasks: the tasks the net is built for, where they are more than those
        trained: a ticket is searched in the net that all tasks will share.
      tables: the optimiser of the tables (`row_optim`).
      table_learning_rate: its step size; None = that of `adam`.
      precision: of the net's forward and backward pass; float32 in full, where an
        accelerator's default would round. Parameters, moments, tables and losses are
        float32 in either.
      masked: whether tasks see the net through masks. Without, one pass through
        the net serves all tasks of a step, and masks are None.
      mesh: the devices that batches and tables are split over (`jaxmtl.devices.sharding`);
        None = one device.
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
    tables: row_optim.Name = "lazy_adam"
    table_learning_rate: Array | float | None = None
    precision: Precision = "float32"
    masked: bool = True
    mesh: Mesh | None = None

    def __post_init__(self):
        choices = {
            "moving": get_args(Moving),
            "spaces": get_args(Spaces),
            "tables": get_args(row_optim.Name),
            "precision": get_args(Precision),
        }
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
        if self.conflict and self.is_product(self.conflict.task):
            raise ValueError(
                f"the conflict's weights bias task {self.conflict.task!r}, which no"
                f" correction undoes, and {self.architecture.name} learns it through a"
                " product of chances; set training.conflict-factor to 1"
            )
        if self.needs_funnel:
            self._check_funnel(getattr(self.architecture, "spaces", None))
        for name in self.tasks:
            if self.is_product(name) and dict(self.task_losses)[name] == "focal":
                raise ValueError(
                    f"{self.architecture.name} learns task {name!r} through a product"
                    " of chances, and what the loss 'focal' learns is none; set"
                    " training.binary-loss to log"
                )

    def is_product(self, name: str) -> bool:
        """Whether a task is learned through its product with those before it."""
        return self.spaces == "product" and spaces.is_nested(self.schema.task(name))

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

    def numbers(self) -> Numbers:
        """The values of everything that `structure` leaves out."""
        return Numbers(
            learning_rate=self.adam.learning_rate,
            table_learning_rate=self.table_rate,
            weight_decay=self.adam.weight_decay,
            task_weights=dict.fromkeys(self.tasks, 1.0) | dict(self.task_weights),
            positive_weights={n: w for n, w in self.positive_weights if w != 1},
            conflict_factor=self.conflict.factor if self.conflict else None,
        )

    def structure(self) -> Setup:
        """What a program still depends on once its numbers are arguments.

        Setups that differ in `numbers` alone have equal structures.
        """
        conflict = self.conflict
        if conflict:
            conflict = dataclasses.replace(conflict, factor=PLACEHOLDER)
        return dataclasses.replace(
            self,
            adam=self.adam._replace(learning_rate=PLACEHOLDER, weight_decay=0.0),
            table_learning_rate=None,
            task_weights=(),
            positive_weights=tuple(
                (name, PLACEHOLDER) for name, w in self.positive_weights if w != 1
            ),
            conflict=conflict,
        )

    def with_numbers(self, numbers: Numbers) -> Setup:
        """A structure with values, traced ones inside a program: not hashable then."""
        conflict = self.conflict
        if conflict:
            conflict = dataclasses.replace(conflict, factor=numbers.conflict_factor)
        return dataclasses.replace(
            self,
            adam=self.adam._replace(
                learning_rate=numbers.learning_rate, weight_decay=numbers.weight_decay
            ),
            table_learning_rate=numbers.table_learning_rate,
            task_weights=tuple(numbers.task_weights.items()),
            positive_weights=tuple(numbers.positive_weights.items()),
            conflict=conflict,
        )

    @property
    def table_rate(self) -> Array | float:
        """Step size of the tables."""
        given = self.table_learning_rate
        return self.adam.learning_rate if given is None else given

    @property
    def row_optimiser(self) -> row_optim.RowOptimiser:
        """What trains the tables."""
        adam = self.adam
        return row_optim.make(self.tables, b1=adam.b1, b2=adam.b2, eps=adam.eps)

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
