"""A log as it comes in, day by day: what was known of each day, and its batches.

A model that is asked about a day has seen the days before it and no other. So an id
that comes up for the first time is `UNKNOWN` to it, whose row of the tables is zero
until something is trained there; from the day on which it was trained the id has a row
of its own. (The tables have one for every id of the training split. Ids that only the
days after that split bring stay unknown.)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.settings.config import Config
from experiments.settings.setup import make_plan
from jaxmtl.data.log import SPLITS
from jaxmtl.data.store import Dataset
from jaxmtl.training.spec import Setup
from jaxmtl.types import PADDING, UNKNOWN, Rows, Schema


class DayStream:
    """All days of a log.

    Attributes:
      data: the log.
      days: those it has, in order.
    """

    def __init__(self, data: Dataset):
        """Puts the splits together again.

        Raises:
          ValueError: the log does not tell days, or its splits are not in time order.
        """
        if "day" not in data.schema.extras:
            raise ValueError(
                f"{data.schema.name} does not say on which day a row was logged; use a"
                " log with days, such as --data.name video_feed"
            )
        splits = [data.splits[name] for name in SPLITS]
        self._rows = jax.tree.map(lambda *parts: np.concatenate(parts), *splits)
        day = self._rows.extras["day"].astype(np.int32)
        if (np.diff(day) < 0).any():
            raise ValueError(
                f"the rows of {data.schema.name} are not in the order of their days;"
                " leave --data.view.split at source"
            )
        self.data = data
        self.days = tuple(int(d) for d in np.unique(day))
        self._day = day
        self._known_ids = ids_known_before(data.schema, self._rows.ids, day)

    @functools.cached_property
    def on_device(self) -> Rows:
        """Every row with all its ids, for training: a day's orders pick its own."""
        return jax.tree.map(jnp.asarray, self._rows)

    def span(self, days: Sequence[int]) -> slice:
        """The rows of neighbouring days."""
        first = np.searchsorted(self._day, days[0])
        return slice(int(first), int(np.searchsorted(self._day, days[-1], "right")))

    def first(self, count: int) -> Dataset:
        """The log of the first days alone, of which the last validates.

        That day is seen as a model of the days before sees it. There is no test.
        """
        *days, last = self.days[:count]
        data = self.until(days)
        validation = jax.tree.map(np.asarray, self.before(last))
        splits = {"train": data.splits["train"], "validation": validation}
        name = f"{self.data.fingerprint}-first-days{days[0]}-{last}"
        return dataclasses.replace(data, splits=splits, fingerprint=name)

    def until(self, days: Sequence[int]) -> Dataset:
        """The log whose training split are the rows of these days."""
        at = self.span(days)
        part = jax.tree.map(lambda column: column[at], self._rows)
        name = f"{self.data.fingerprint}-days{days[0]}-{days[-1]}"
        splits = {**self.data.splits, "train": part}
        return dataclasses.replace(self.data, splits=splits, fingerprint=name)

    @functools.cache  # noqa: B019, a stream lives as long as its run
    def before(self, day: int) -> Rows:
        """The rows of a day as a model of the days before sees them, on the device."""
        at = self.span([day])
        rows = jax.tree.map(lambda column: jnp.asarray(column[at]), self._rows)
        return rows._replace(ids=jnp.asarray(self._known_ids[at]))

    def labels(self, day: int) -> dict[str, np.ndarray]:
        """Task -> the labels of a day."""
        at = self.span([day])
        return {name: column[at] for name, column in self._rows.labels.items()}

    def unseen(self, day: int) -> dict[str, float]:
        """The shares of a day's rows whose user, item or any id is unknown then."""
        ids, schema = self._known_ids[self.span([day])], self.data.schema
        unknown = ids == UNKNOWN
        column = lambda name: float(unknown[:, schema.column(name)].mean())
        return {
            "user": column(schema.user),
            "item": column(schema.item),
            "any": float(unknown.any(1).mean()),
        }


def ids_known_before(schema: Schema, ids: np.ndarray, day: np.ndarray) -> np.ndarray:
    """The ids with `UNKNOWN` wherever no row of an earlier day has that id.

    Fields that share a vocabulary make each other's ids known, as they share rows.

    Args:
      schema: fields and vocabularies.
      ids: int32 [rows, slots], -1 = padding.
      day: int [rows].
    """
    known = np.array(ids)
    slots: dict[str, list[int]] = {}
    for field in schema.fields:
        at = schema.column(field.name)
        slots.setdefault(field.vocabulary, []).extend(range(at, at + field.slots))
    for vocabulary in schema.vocabularies:
        mine = np.asarray(slots.get(vocabulary.name, []), int)
        part = np.asarray(ids)[:, mine]
        filled = part != PADDING
        first = np.full(vocabulary.size, np.iinfo(np.int32).max)
        days = np.broadcast_to(day[:, None], part.shape)
        np.minimum.at(first, part[filled], days[filled])
        is_new = filled & (first[np.maximum(part, 0)] >= day[:, None])
        known[:, mine] = np.where(is_new, UNKNOWN, part)
    return known


class Window:
    """The batches of some days, in time order: what `fit` asks of a plan."""

    def __init__(self, plans: DayPlans, days: Sequence[int]):
        self._plans, self._days = plans, days
        self.steps = len(days) * plans.steps

    def orders(self, seed: int, epoch: int) -> dict[str, np.ndarray]:
        """Kind of step -> int32 [steps, size] row numbers of the stream."""
        parts = [self._plans.orders(day, seed, epoch) for day in self._days]
        return {kind: np.concatenate([p[kind] for p in parts]) for kind in parts[0]}

    @property
    def rows(self) -> dict[str, int]:
        """Kind of step -> rows that an epoch trains on."""
        orders = self.orders(0, 1)
        return {kind: int((order >= 0).sum()) for kind, order in orders.items()}


class DayPlans:
    """Batches of every day, all of one shape: a training compiles once.

    Attributes:
      steps: that every day takes; a short day ends with empty ones.
    """

    def __init__(self, stream: DayStream, config: Config, setup: Setup):
        self._plans = {
            day: make_plan(config, stream.until([day]), setup) for day in stream.days
        }
        self._first = {day: stream.span([day]).start for day in stream.days}
        self.steps = max(plan.steps for plan in self._plans.values())
        self._sizes = {
            kind: max(plan.sizes[kind] for plan in self._plans.values())
            for kind in setup.kinds
        }

    def window(self, days: Sequence[int]) -> Window:
        """The batches of some days."""
        return Window(self, days)

    def orders(self, day: int, seed: int, epoch: int) -> Mapping[str, np.ndarray]:
        """Kind of step -> int32 [steps, size] row numbers of the stream, -1 = none."""
        found = {}
        for kind, order in self._plans[day].orders(seed, epoch).items():
            empty = np.full((self.steps, self._sizes[kind]), -1, np.int32)
            filled = np.where(order >= 0, order + self._first[day], -1)
            empty[: order.shape[0], : order.shape[1]] = filled
            found[kind] = empty
        return found
