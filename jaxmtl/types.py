"""The nouns every other module shares. Imports nothing of ours.

A schema says what a row of a log holds; `Rows` are such rows as columns;
a `Batch` is some of them with a flag for the slots that are only padding.
Everything trained or pruned is a plain pytree of arrays.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax

Array = jax.Array
Key = jax.Array
Params = Mapping[str, Any]
"""A net. `net["shared"]` serves every task, `net["tasks"][name]` one alone."""
Mask = Any
"""One task's tree over a net: bool arrays, `None` where nothing is ever pruned."""

PADDING = -1
"""Fills the unused slots of a multi-valued field; adds nothing to its pool."""
GROUPS = ("user", "item")
UNKNOWN = 0
"""Row 0 of every vocabulary: ids that the training split does not hold."""
SHARED = "shared"
"""Name of the stack of embeddings that all tasks read."""
IMPRESSION = "impression"
"""The label space that holds every row."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The ids `0 … size - 1` of one kind of thing; id 0 is `UNKNOWN`."""

    name: str
    size: int


@dataclasses.dataclass(frozen=True)
class Field:
    """One categorical feature: `slots` ids of a vocabulary, padded with -1."""

    name: str
    vocabulary: str
    slots: int = 1


@dataclasses.dataclass(frozen=True)
class Task:
    """What is predicted, and on which rows.

    Attributes:
      name: key of the label column and of the model's output.
      kind: `binary` (label 0 or 1) or `continuous` (label in [0, high]).
      space: the rows on which the label means anything: `impression` (all) or
        the name of the task whose label must be positive. A NaN label is
        missing and never counts.
      high: upper end of a continuous label.
      metric: what decides between models on validation, `auc` or `mse`.
    """

    name: str
    kind: Literal["binary", "continuous"] = "binary"
    space: str = IMPRESSION
    high: float = 1.0
    metric: Literal["auc", "mse"] = "auc"

    def __post_init__(self):
        if self.kind == "continuous" and self.metric == "auc":
            raise ValueError(
                f"task {self.name!r} is continuous, but AUC needs labels 0 and 1;"
                ' judge it by metric="mse"'
            )

    @property
    def is_probability(self) -> bool:
        """Whether the prediction is squashed into [0, 1]."""
        return self.kind == "binary" or self.high <= 1.0

    def inside(self, labels: Mapping[str, Any]) -> Any:
        """bool [n]: the rows on which the task is trained and judged.

        Its label is known and, unless its space is `impression`, the label of its
        space is above 0. Works on NumPy and JAX arrays alike.

        Args:
          labels: task name -> [n]; NaN = missing.

        Raises:
          ValueError: a label the task needs is not there.
        """
        needed = [self.name] + [self.space] * (self.space != IMPRESSION)
        missing = [name for name in needed if name not in labels]
        if missing:
            raise ValueError(
                f"task {self.name!r} in space {self.space!r} needs labels {missing};"
                f" given are {sorted(labels)}"
            )
        own = labels[self.name]
        known = own == own  # NaN is not
        return known if self.space == IMPRESSION else known & (labels[self.space] > 0)


@dataclasses.dataclass(frozen=True)
class Schema:
    """What a row of a log holds.

    Attributes:
      name: of the data set.
      fields: categorical features, in the order of their slots in `Rows.ids`.
      vocabularies: what the fields index; several fields may share one.
      tasks: every label of the log.
      ctr: name of the task that plays the paper's CTR (dense labels).
      cvr: name of the task that plays the paper's CVR (sparse labels).
      user: name of the single-valued field that holds the user's id.
      item: name of the single-valued field that holds the id of what was shown.
      numeric: names of the numeric features, scaled by the source.
      extras: float32 columns that are no features: `duration` (seconds),
        `day`, `segment` (index into `segments`), `truth.<task>` (the known
        expectation of a simulated label inside its space).
      segments: names of the parts that results are also reported for.
    """

    name: str
    fields: tuple[Field, ...]
    vocabularies: tuple[Vocabulary, ...]
    tasks: tuple[Task, ...]
    ctr: str
    cvr: str
    user: str
    item: str
    numeric: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()

    def __post_init__(self):
        sizes = {v.name for v in self.vocabularies}
        tasks = {t.name for t in self.tasks}
        for field in self.fields:
            if field.vocabulary not in sizes:
                raise ValueError(
                    f"schema {self.name}: field {field.name!r} indexes vocabulary"
                    f" {field.vocabulary!r}; declared are {sorted(sizes)}"
                )
        for task in self.tasks:
            if task.space not in tasks | {IMPRESSION} or task.space == task.name:
                raise ValueError(
                    f"schema {self.name}: task {task.name!r} lives in space"
                    f" {task.space!r}; known are {sorted(tasks | {IMPRESSION})}"
                )
            self.funnel(task.name)
        for role in (self.ctr, self.cvr):
            if role not in tasks:
                raise ValueError(
                    f"schema {self.name}: {role!r} plays a role but is no task;"
                    f" tasks are {sorted(tasks)}"
                )
        single = {f.name for f in self.fields if f.slots == 1}
        for name in (self.user, self.item):
            if name not in single:
                raise ValueError(
                    f"schema {self.name}: {name!r} groups rows but is no"
                    f" single-valued field; those are {sorted(single)}"
                )
        for names in (self.fields, self.tasks, self.vocabularies):
            seen = [n.name for n in names]
            if len(set(seen)) != len(seen):
                raise ValueError(f"schema {self.name}: a name stands twice in {seen}")

    @property
    def slots(self) -> int:
        """Width of `Rows.ids`."""
        return sum(f.slots for f in self.fields)

    def task(self, name: str) -> Task:
        """The task called `name`.

        Raises:
          ValueError: there is none; names those that exist.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise ValueError(
            f"schema {self.name} has no task {name!r}; it has"
            f" {[t.name for t in self.tasks]}"
        )

    def funnel(self, name: str) -> tuple[Task, ...]:
        """A task after those that lead to it: click, order for an order on clicks.

        Raises:
          ValueError: there is no such task, or spaces lead back to where they began.
        """
        path = [self.task(name)]
        while path[0].space != IMPRESSION:
            if len(path) > len(self.tasks):
                raise ValueError(
                    f"schema {self.name}: the spaces of {[t.name for t in path[:-1]]}"
                    f" form a circle; one of them must live in {IMPRESSION!r}"
                )
            path.insert(0, self.task(path[0].space))
        return tuple(path)

    def column(self, field: str) -> int:
        """First column of a field's slots in `Rows.ids`."""
        at = 0
        for f in self.fields:
            if f.name == field:
                return at
            at += f.slots
        raise ValueError(
            f"schema {self.name} has no field {field!r}; it has"
            f" {[f.name for f in self.fields]}"
        )

    def to_json(self) -> str:
        """The schema as text, for `from_json`."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The schema whose `to_json` is `text`.

        Raises:
          ValueError: it is none: no JSON, or a key is unknown or missing.
        """
        raw = json.loads(text)
        kinds = {"fields": Field, "vocabularies": Vocabulary, "tasks": Task}
        try:
            for key, kind in kinds.items():
                raw[key] = tuple(kind(**item) for item in raw[key])
            for key in ("numeric", "extras", "segments"):
                raw[key] = tuple(raw[key])
            return cls(**raw)
        except (KeyError, TypeError) as error:
            keys = [field.name for field in dataclasses.fields(cls)]
            raise ValueError(
                f"{error!r}; a schema is an object with the keys {keys}"
            ) from error


class Rows(NamedTuple):
    """Rows of a log as columns (NumPy on the host, JAX arrays on a device).

    Attributes:
      ids: int32 [n, slots], local to each field's vocabulary, -1 = padding.
      numeric: float32 [n, numerics].
      labels: task name -> float32 [n]; NaN = missing.
      extras: name -> float32 [n].
      groups: `user` and `item` -> int32 [n], who and what a row is about,
        numbered over all splits. For grouped metrics and counts, never features:
        `ids` call everyone whom training does not hold `UNKNOWN`.
    """

    ids: Any
    numeric: Any
    labels: dict[str, Any]
    extras: dict[str, Any]
    groups: dict[str, Any]

    @property
    def num_rows(self) -> int:
        return self.ids.shape[0]


class Batch(NamedTuple):
    """A fixed number of rows; `valid` is False in the slots without one."""

    rows: Rows
    valid: Array


class Features(NamedTuple):
    """What a model sees of a batch, pooled to one vector a field.

    Attributes:
      shared: float32 [batch, fields, dim].
      own: task -> [batch, fields, d], a task's own view; empty without one.
      numeric: float32 [batch, numerics].
    """

    shared: Array
    own: dict[str, Array]
    numeric: Array


class Outputs(NamedTuple):
    """Named logits, each [batch]."""

    logits: dict[str, Array]


class Model(NamedTuple):
    """A published architecture as pure functions.

    Attributes:
      init: (key, features) -> net, the parameters without the embedding tables;
        of `features` only the shapes are read.
      apply: (net, features, *, key=None) -> Outputs; no key means evaluation.
      aux_loss: (recalibrated logits, valid bool [batch]) -> a scalar that is added to
        the loss; None where there is none.
      reads_all_stacks: whether a task's logit may read other tasks' own embeddings
        too. Where a gradient must not reach them, `apply` stops it; they move in their
        own task's step alone.
    """

    init: Callable[[Key, Features], Params]
    apply: Callable[..., Outputs]
    aux_loss: Callable[[Mapping[str, Array], Array], Array] | None = None
    reads_all_stacks: bool = False

    def stacks_read(
        self, stacks: Sequence[str], tasks: Sequence[str]
    ) -> tuple[str, ...]:
        """The stacks of embeddings that the logits of some tasks depend on.

        Args:
          stacks: all there are: the shared one, and the own ones of tasks.
          tasks: at hand.
        """
        return tuple(
            stack
            for stack in stacks
            if self.reads_all_stacks or stack == SHARED or stack in tasks
        )
