"""What a training's programs depend on, and the numbers that they are given.

A spec is names and options, frozen and hashable: equal specs share a compiled program.
It has parts, and a program depends on those that it reads: predictions on the net and
on what its logits stand for, an initial state on the net and on the optimisers. What is
only a number is an argument of a program (`Numbers`) or lies in the state that it
changes (`Start` says how that begins): another learning rate, weight or mask compiles
nothing again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from jax.sharding import Mesh

from jaxmtl import discovery, losses, models, spaces
from jaxmtl.balancing.methods.fixed import Fixed
from jaxmtl.data.batches import EVERY
from jaxmtl.layers.crossing import Crossing
from jaxmtl.optim.optimisers.adam import Adam
from jaxmtl.optim.schedules.constant import Constant
from jaxmtl.spaces import Spaces
from jaxmtl.tables import row_optim
from jaxmtl.tables.layout import Layout, layout_of
from jaxmtl.types import SHARED, Array, Batch, Model, Schema, Task

Moving = Literal["gated", "per_task", "leaky"]
Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class ConflictRule:
    """Which rows of a task's loss are weighted, as the tasks' gradients disagree there.

    Attributes:
      task: whose loss is weighted.
      threshold: label under which a row is one; None = the rule by duration.
    """

    task: str
    threshold: float | None

    def row_weight(self, batch: Batch, factor: Array | float) -> Array:
        """float32 [batch]: `factor` on the rows of the rule, 1 elsewhere."""
        if self.threshold is None:
            return losses.duration_conflict(self.task, factor)(batch)
        return losses.threshold_conflict(self.task, factor, self.threshold)(batch)

    def shifts(self, task: Task) -> bool:
        """Whether the weights shift a task's odds in a way that can be undone.

        Of a binary task the rule by threshold weights every negative, so the
        weighted loss, log or focal, learns odds that are `factor` times too small.
        No such correction exists for a continuous label: a row's weight depends on
        the label itself, and the prediction stays biased.
        """
        negatives_alone = self.threshold is not None and 0 < self.threshold <= 1
        return task.name == self.task and task.kind == "binary" and negatives_alone


@dataclasses.dataclass(frozen=True)
class NetSpec:
    """The tables' shapes and the net.

    Attributes:
      schema: of the rows.
      tasks: names of the tasks trained and predicted.
      architecture: options of one of `jaxmtl.models`.
      crossing: how field embeddings are crossed.
      dim: width of the shared embeddings.
      own_dims: pairs of a task and the width of its own embeddings.
      net_tasks: tasks that the net is built for; empty = `tasks`. What the others
        share may depend on them.
      masked: whether tasks see the net through masks. Without, one pass through
        the net serves all tasks of a step, and masks are None.
      mesh: the devices that batches and tables are split over
        (`jaxmtl.devices.sharding`); None = one device.
      layout: of the tables' lines (`jaxmtl.tables.layout`); None = that of the mesh's
        platform, or of JAX's default one. Programs compiled here for devices that are
        elsewhere need it.
    """

    schema: Schema
    tasks: tuple[str, ...]
    architecture: models.Architecture
    crossing: Crossing
    dim: int
    own_dims: tuple[tuple[str, int], ...] = ()
    net_tasks: tuple[str, ...] = ()
    masked: bool = True
    mesh: Mesh | None = None
    layout: Layout | None = None

    def __post_init__(self):
        discovery.maker(self.architecture)  # or says that it is none
        reserved = {SHARED, EVERY} & set(self.tasks)
        if reserved:
            raise ValueError(f"{sorted(reserved)} cannot name a task; rename it")

    @property
    def model(self) -> Model:
        """The architecture's functions."""
        tasks = [self.schema.task(name) for name in self.net_tasks or self.tasks]
        return models.make(self.architecture, tasks, self.crossing)

    @property
    def table_layout(self) -> Layout:
        """How the tables' lines lie in memory."""
        return self.layout or layout_of(self.mesh)


@dataclasses.dataclass(frozen=True)
class OutputSpec:
    """What the net's logits stand for.

    Attributes:
      spaces: of nested tasks (`spaces.Spaces`).
      links: pairs of a task and its loss, where that learns no log-odds.
      precision: of the net's products, forward and backward; parameters, moments,
        tables and losses are float32 in either.
    """

    spaces: Spaces = "own"
    links: tuple[tuple[str, str], ...] = ()
    precision: Precision = "float32"

    def is_product(self, task: Task) -> bool:
        """Whether a task is learned through its product with those before it."""
        return self.spaces == "product" and spaces.is_nested(task)


@dataclasses.dataclass(frozen=True)
class LossSpec:
    """What is minimised.

    Attributes:
      names: pairs of a task and its loss.
      weighted: the tasks whose positives have a weight.
      conflict: which rows are weighted, or None.
    """

    names: tuple[tuple[str, str], ...]
    weighted: tuple[str, ...] = ()
    conflict: ConflictRule | None = None


@dataclasses.dataclass(frozen=True)
class StepSpec:
    """How parameters move.

    Attributes:
      optimiser: options of one of `jaxmtl.optim.optimisers`, for the net.
      schedule: options of one of `jaxmtl.optim.schedules`, for net and tables.
      clip: largest norm of the net's gradient behind the gates; None = any.
      tables: optimiser of the tables' rows; an Adam shares b1, b2 and eps with the
        net's.
      moving: what a task's step may move. `gated`: its own subnetwork, one set
        of moments; `per_task`: the same, with moments for each task; `leaky`:
        everything, one plain optimiser as in the authors' code.
      summed: one step on the weighted sum (LT4REC, eq. 2) instead of alternating
        tasks. Only a sum weighs the tasks as eq. 2 says: Adam divides a step by the
        size of the gradients in its moments, so that by turns a task's scale cancels,
        or tells on the other where they share moments.
      balancer: options of one of `jaxmtl.balancing.methods`.
    """

    optimiser: Any = Adam()
    schedule: Any = Constant()
    clip: float | None = None
    tables: row_optim.Name = "lazy_adam"
    moving: Moving = "gated"
    summed: bool = False
    balancer: Any = Fixed()

    def __post_init__(self):
        if self.tables == "adam" and self.schedule != Constant():
            raise ValueError(
                "tables 'adam' catch up with skipped updates at today's learning rate,"
                f" and the schedule {discovery.name_of(self.schedule)} changes it; use"
                " --optimiser.tables lazy_adam, or the schedule constant"
            )
        schedules = discovery.make(self.balancer).schedules
        if not self.summed and "alternate" not in schedules:
            raise ValueError(
                f"the balancer {discovery.name_of(self.balancer)} weighs the tasks of"
                " one step against each other, and alternating steps have one task"
                " each; set --training.schedule to sum"
            )

    def kinds(self, tasks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Kind of step -> the tasks it trains, of these."""
        return {EVERY: tasks} if self.summed else {task: (task,) for task in tasks}

    @property
    def row_optimiser(self) -> row_optim.RowOptimiser:
        """What trains the tables."""
        adam = self.optimiser if isinstance(self.optimiser, Adam) else Adam()
        return row_optim.make(self.tables, b1=adam.b1, b2=adam.b2, eps=adam.eps)


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """All that a training's programs depend on besides the shapes of arguments."""

    net: NetSpec
    output: OutputSpec
    loss: LossSpec
    step: StepSpec

    def __post_init__(self):
        choices = {
            "moving": (self.step.moving, Moving),
            "spaces": (self.output.spaces, Spaces),
            "tables": (self.step.tables, row_optim.Name),
            "precision": (self.output.precision, Precision),
        }
        for name, (given, known) in choices.items():
            if given not in get_args(known):
                raise ValueError(f"{name} {given!r} is none of {list(get_args(known))}")
        net, names = self.net, dict(self.loss.names)
        without = set(net.tasks) - set(names)
        if without:
            raise ValueError(f"no loss for {sorted(without)}; add it to task_losses")
        conflict = self.loss.conflict
        if conflict and conflict.threshold is not None and self.output.spaces != "own":
            raise ValueError(
                f"the conflict's threshold weights rows of the space of"
                f" {conflict.task!r}, but spaces {self.output.spaces!r} trains it on"
                " all impressions; set training.spaces to own, or"
                " training.conflict-factor to 1"
            )
        if conflict and self.output.is_product(net.schema.task(conflict.task)):
            raise ValueError(
                f"the conflict's weights bias task {conflict.task!r}, which no"
                f" correction undoes, and {discovery.name_of(net.architecture)} learns"
                " it through a product of chances; set training.conflict-factor to 1"
            )
        if self.needs_funnel:
            self._check_funnel(getattr(net.architecture, "spaces", None))
        for name in net.tasks:
            is_product = self.output.is_product(net.schema.task(name))
            if is_product and names[name] == "focal":
                raise ValueError(
                    f"{discovery.name_of(net.architecture)} learns task {name!r}"
                    " through a product of chances, and what the loss 'focal' learns is"
                    " none; set training.binary-loss to log"
                )

    @property
    def needs_funnel(self) -> bool:
        """Whether the architecture itself says what its logits stand for."""
        return hasattr(self.net.architecture, "spaces") or (
            self.output.spaces == "product"
        )

    def _check_funnel(self, fixed: Spaces | None) -> None:
        name = discovery.name_of(self.net.architecture)
        spaces.check_funnel(name, self.net.schema, self.net.tasks)
        given = self.output.spaces
        if fixed is not None and given != fixed:
            raise ValueError(
                f"{name} learns spaces {fixed!r}, given is {given!r}; set"
                f" training.spaces to {fixed}"
            )
        if not self.step.summed:
            raise ValueError(
                f"{name} learns a task through those before it, in one step; set"
                " training.schedule to sum"
            )

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Kind of step -> the tasks it trains."""
        return self.step.kinds(self.net.tasks)

    @property
    def learned(self) -> dict[str, Task]:
        """Name -> the task whose labels and rows its loss takes, its joint one or
        itself; also what validation judges it by."""
        tasks = {name: self.net.schema.task(name) for name in self.net.tasks}
        if self.output.spaces == "own":
            return tasks
        return {
            name: spaces.joint_task(task) if spaces.is_nested(task) else task
            for name, task in tasks.items()
        }


class Numbers(NamedTuple):
    """What losses and recalibration need: an argument of training and prediction.

    Attributes:
      positive_weights: task -> the weight of its positives, where that is not 1.
      conflict_factor: weight of the conflict's rows; None without a conflict.
      offsets: task -> what weights in the loss add to the log-odds that it learns.
    """

    positive_weights: dict[str, Array | float]
    conflict_factor: Array | float | None
    offsets: dict[str, Array | float]


class Start(NamedTuple):
    """The numbers a training's state begins with.

    Attributes:
      learning_rate: of the net.
      table_learning_rate: of the tables.
      weight_decay: decoupled, of the net's kernels.
      task_weights: task -> its weight in the sum of losses.
      init_scale: standard deviation of the initial embeddings.
    """

    learning_rate: Array | float
    table_learning_rate: Array | float
    weight_decay: Array | float
    task_weights: dict[str, Array | float]
    init_scale: Array | float


@dataclasses.dataclass(frozen=True)
class Setup:
    """A training: what its programs depend on, and the numbers they are given.

    It has the attributes of its net's spec too, so it serves where one of a net does.
    """

    spec: TrainSpec
    numbers: Numbers
    start: Start

    def __hash__(self) -> int:
        return hash(self.spec)

    schema = property(lambda self: self.spec.net.schema)
    tasks = property(lambda self: self.spec.net.tasks)
    architecture = property(lambda self: self.spec.net.architecture)
    crossing = property(lambda self: self.spec.net.crossing)
    dim = property(lambda self: self.spec.net.dim)
    own_dims = property(lambda self: self.spec.net.own_dims)
    net_tasks = property(lambda self: self.spec.net.net_tasks)
    masked = property(lambda self: self.spec.net.masked)
    mesh = property(lambda self: self.spec.net.mesh)
    table_layout = property(lambda self: self.spec.net.table_layout)
    model = property(lambda self: self.spec.net.model)
    moving = property(lambda self: self.spec.step.moving)
    summed = property(lambda self: self.spec.step.summed)
    kinds = property(lambda self: self.spec.kinds)
    learned = property(lambda self: self.spec.learned)
    needs_funnel = property(lambda self: self.spec.needs_funnel)

    def on(self, mesh: Mesh | None) -> Setup:
        """The same training on other devices."""
        return self.with_net(mesh=mesh)

    def with_net(self, **changes: Any) -> Setup:
        """The same training of another net (fields of `NetSpec`)."""
        return self._with(net=dataclasses.replace(self.spec.net, **changes))

    def with_step(self, **changes: Any) -> Setup:
        """The same training by steps of another kind (fields of `StepSpec`)."""
        return self._with(step=dataclasses.replace(self.spec.step, **changes))

    def with_start(self, **changes: float) -> Setup:
        """The same training from other rates (fields of `Start`)."""
        return dataclasses.replace(self, start=self.start._replace(**changes))

    def _with(self, **parts: Any) -> Setup:
        spec = dataclasses.replace(self.spec, **parts)
        return dataclasses.replace(self, spec=spec)


Pairs = Mapping[str, Any] | Sequence[tuple[str, Any]]
"""Something of each task: by its name, or as pairs."""


class Conflict(NamedTuple):
    """Weights a task's loss on rows where the tasks' gradients disagree.

    Attributes:
      task: whose loss is weighted.
      factor: the weight of such a row.
      threshold: label under which a row is one; None = the rule by duration.
    """

    task: str
    factor: float
    threshold: float | None


def make_setup(
    *,
    schema: Schema,
    tasks: tuple[str, ...],
    architecture: models.Architecture,
    crossing: Crossing,
    dim: int,
    learning_rate: float,
    task_losses: Pairs,
    own_dims: Pairs = (),
    net_tasks: tuple[str, ...] = (),
    masked: bool = True,
    mesh: Mesh | None = None,
    init_scale: float = 0.05,
    spaces: Spaces = "own",
    precision: Precision = "float32",
    positive_weights: Pairs = (),
    conflict: Conflict | None = None,
    task_weights: Pairs = (),
    table_learning_rate: float | None = None,
    weight_decay: float = 0.0,
    **step: Any,
) -> Setup:
    """A training, from names and numbers.

    Args:
      schema: and what follows are those of `NetSpec`, `OutputSpec`, `LossSpec` and
        `Start`.
      task_losses: task -> its loss; as the others, it may name further tasks.
      positive_weights: task -> the weight of its positives; 1 by default.
      task_weights: task -> its weight in the sum of losses; 1 by default.
      table_learning_rate: step size of the tables; the net's by default.
      step: fields of `StepSpec`.

    Raises:
      ValueError: the parts do not fit together; says which and what to do.
    """
    net = NetSpec(
        schema=schema,
        tasks=tuple(tasks),
        architecture=architecture,
        crossing=crossing,
        dim=dim,
        own_dims=tuple(dict(own_dims).items()),
        net_tasks=tuple(net_tasks),
        masked=masked,
        mesh=mesh,
    )
    names = tuple((n, loss) for n, loss in dict(task_losses).items() if n in net.tasks)
    given = dict(positive_weights).items()
    weights = {n: w for n, w in given if w != 1 and n in net.tasks}
    rule = ConflictRule(conflict.task, conflict.threshold) if conflict else None
    spec = TrainSpec(
        net,
        OutputSpec(spaces, losses.linked(names), precision),
        LossSpec(names, tuple(weights), rule),
        StepSpec(**step),
    )

    def offset(name: str) -> float:
        task = schema.task(name)
        if spec.output.is_product(task):
            return 0.0  # its weighted loss is taken on the joint event's logit
        shift = math.log(weights.get(name, 1.0))
        shifted = rule is not None and rule.shifts(task)
        return shift - (math.log(conflict.factor) if shifted else 0.0)

    numbers = Numbers(
        positive_weights=weights,
        conflict_factor=conflict.factor if conflict else None,
        offsets={name: offset(name) for name in net.tasks},
    )
    start = Start(
        learning_rate=learning_rate,
        table_learning_rate=(
            learning_rate if table_learning_rate is None else table_learning_rate
        ),
        weight_decay=weight_decay,
        task_weights={n: float(dict(task_weights).get(n, 1.0)) for n in net.tasks},
        init_scale=init_scale,
    )
    return Setup(spec, numbers, start)
