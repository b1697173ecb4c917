"""A method from day to day: begun on the first days, then judged and updated daily.

Progressive validation: a day is predicted with what the days before it taught, and
only then trained on, once, in time order. The optimiser's moments go on from day to
day, as those of a system that never stops.

Masks are found on the first days by Algorithm 1 of LT4REC, which rewinds to the
initial weights. Where they are found again each day, the search looks at as many days,
the newest last, and rewinds to the weights of that day: a search from the initial ones
would need all earlier days again before its subnetwork could serve.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from experiments.daily.day_costs import Cost, work_of
from experiments.daily.day_stream import DayPlans, DayStream
from experiments.running import progress, search_finder, stopping, ticket_cache
from experiments.running.monitor import Monitor
from experiments.settings.config import Config
from experiments.settings.setup import make_setup, role, task_names
from jaxmtl import metrics
from jaxmtl.data.store import Dataset
from jaxmtl.sparsity import masks, pruning, tickets
from jaxmtl.training.fit import Fit, Progress, fit
from jaxmtl.training.inference import predict_all
from jaxmtl.training.resume import Folder
from jaxmtl.training.spec import Setup
from jaxmtl.training.train import make_epoch
from jaxmtl.training.train_state import (
    Snapshot,
    TrainState,
    dense_masks,
    make_gates,
    net_shapes,
    restart,
    snapshot_of,
)
from jaxmtl.types import Mask

Update = Literal["daily", "never", "daily, masks found again"]


class Begun(NamedTuple):
    """What the first days taught."""

    snapshot: Snapshot
    task_masks: dict[str, Mask | None]
    cost: Cost


class Learner:
    """A row's training over a stream with one seed."""

    def __init__(self, stream: DayStream, config: Config, seed: int, first: int):
        """Prepares; trains nothing.

        Args:
          stream: the days.
          config: of the row.
          seed: of initial weights and of the order within a day.
          first: how many days it begins with, at least 2; the last of them validates.
        """
        self._stream, self._config, self._seed = stream, config, seed
        self._first = stream.days[:first]
        self._masked = config.pruning.masks != "none"
        self._tasks = task_names(config, stream.data.schema)
        data = self._data(self._first)
        together = ticket_cache.net_tasks(config, data) if self._masked else ()
        self.setup = make_setup(config, data, self._tasks, together)
        self._plans = DayPlans(stream, config, self.setup)

    def _data(self, days: Sequence[int]) -> Dataset:
        return self._stream.until(days[:-1])

    def begin(self) -> Begun:
        """Finds masks, where there are any, and trains from the initial weights."""
        started, data = time.monotonic(), self._data(self._first)
        starts = lambda setup: ticket_cache.make_start(
            self._config, data, setup, self._seed
        )
        found, cost = self._find_masks(self._first, starts)
        state = starts(self.setup)(self._config.pruning.rounds + 1)
        work = self._work(state.net, found, self._plans.window(self._first[:-1]).rows)
        limits = self._config.training
        result = self._fit(self.setup, state, found, self._plans, self._first, limits)
        epochs, seconds = len(result.history), time.monotonic() - started
        taken = Cost(1, epochs * work, seconds)
        return Begun(result.best, found, cost.plus(taken))

    def state(self, snapshot: Snapshot) -> TrainState:
        """The state that goes on from a snapshot."""
        return restart(self.setup, jax.random.key(self._seed), snapshot)

    def find_masks_again(
        self, day: int, state: TrainState
    ) -> tuple[dict[str, Mask | None], Cost]:
        """The tickets of the newest days, rewound to the weights of this one."""
        started, last = time.monotonic(), self._stream.days.index(day) + 1
        days = self._stream.days[last - len(self._first) : last]
        snapshot, key = snapshot_of(state), jax.random.key(self._seed)
        starts = lambda setup: lambda number: restart(setup, key, snapshot)
        found, cost = self._find_masks(days, starts)
        return found, cost._replace(seconds=time.monotonic() - started)

    def learn(
        self, day: int, state: TrainState, task_masks: Mapping[str, Mask | None]
    ) -> tuple[TrainState, Cost]:
        """One pass over a day; donates the state."""
        started, window = time.monotonic(), self._plans.window([day])
        gates = make_gates(self.setup, state.net, task_masks)
        work = self._work(state.net, task_masks, window.rows)
        orders, rows = window.orders(self._seed, 1), self._stream.on_device
        state, _ = make_epoch(self.setup)(state, task_masks, gates, rows, orders)
        jax.block_until_ready(state)
        return state, Cost(1, work, time.monotonic() - started)

    def judge(
        self, day: int, state: TrainState, task_masks: Mapping[str, Mask | None]
    ) -> dict[str, float | None]:
        """`ctr.auc`, `cvr.mse`, … of a day that was not trained on."""
        rows, labels = self._stream.before(day), self._stream.labels(day)
        snapshot, schema = snapshot_of(state), self._stream.data.schema
        predicted, found = predict_all(self.setup, snapshot, task_masks, rows), {}
        for name in self._tasks:
            task = schema.task(name)
            inside = task.inside(labels)
            score = metrics.auc if task.metric == "auc" else metrics.mse
            value = score(labels[name][inside], predicted[name][inside]).value
            found[f"{role(schema, name)}.{task.metric}"] = value
        return found

    def dense(self) -> dict[str, Mask | None]:
        """Task -> the mask that keeps everything; None without masks."""
        return dense_masks(self.setup, net_shapes(self.setup))

    def _find_masks(
        self,
        days: Sequence[int],
        starts: Callable[[Setup], Callable[[int], TrainState]],
    ) -> tuple[dict[str, Mask | None], Cost]:
        """Algorithm 1, lines 1-9, on some days, of which the last validates."""
        together, cost = self.dense(), Cost()
        for task in self._tasks if self._masked else ():
            mask, spent = self._search(task, days, starts)
            together[task] = masks.join(together[task], mask, task)
            cost = cost.plus(spent)
        return together, cost

    def _search(
        self,
        task: str,
        days: Sequence[int],
        starts: Callable[[Setup], Callable[[int], TrainState]],
    ) -> tuple[Mask, Cost]:
        """A task's ticket; its cost without the seconds."""
        config, data, cost = self._config, self._data(days), Cost()
        setup = ticket_cache.single_setup(config, data, task)
        dense = ticket_cache.read_by(setup, task)
        plans = DayPlans(self._stream, config, setup)
        plan = plans.window(days[:-1])
        rows, split = plan.rows, self._stream.on_device
        finder = search_finder.make(config, setup, dense, self._seed, plan, split)

        def train(state: TrainState, mask: Mask, number: int) -> Fit:
            nonlocal cost
            work = work_of(setup, state.net, {task: mask}, rows)
            state, moving = finder.begin(state, mask, number)
            result = self._fit(
                setup, state, {task: mask}, plans, days, config.pruning, **moving
            )
            cost = cost.plus(Cost(1, len(result.history) * work))
            return result

        rounds = tickets.find(
            starts(setup),
            train,
            lambda result: result.value(task),
            finder.prune,
            pruning.keep_counts(
                masks.count(dense), config.pruning.final_density, config.pruning.rounds
            ),
            dense,
            finder.mask_of,
        )
        metric = data.schema.task(task).metric
        chosen = tickets.choose(rounds, metric, config.pruning.max_density)
        return rounds[chosen].mask, cost

    def _fit(self, setup, state, task_masks, plans, days, limits, **moving) -> Fit:
        """Early stopping on the last of the days; trains on those before it."""
        stopping.check()
        return fit(
            setup,
            state,
            task_masks,
            plan=plans.window(days[:-1]),
            train=self._stream.on_device,
            validation=self._stream.before(days[-1]),
            seed=self._seed,
            epochs=limits.epochs,
            patience=limits.patience,
            chunk=plans.steps,
            on_nonfinite=self._config.on_nonfinite,
            **moving,
        )

    def _work(self, net, task_masks, rows) -> float:
        return work_of(self.setup, net, task_masks, rows)


def live(
    learner: Learner,
    begin: Callable[[], Begun],
    update: Update,
    days: Sequence[int],
    keeper: Folder,
    monitor: Monitor,
    name: tuple[str, int],
) -> list[dict[str, Any]]:
    """Goes through the days; from where an earlier attempt was stopped, if one was.

    Args:
      learner: of a row and a seed.
      begin: what `Learner.begin` returns; not called where progress is restored.
      update: what is done with a day once it is judged.
      days: the last of those it began with, which is trained on and not judged, and
        all after it; the last is judged and not trained on.
      keeper: of the progress after each day.
      monitor: watches; all of the days are announced to it.
      name: of the method and its seed, for the monitor.

    Returns:
      For each day `day`, `metrics` and `cost`.
    """
    state, task_masks, records = _restore(learner, keeper)
    if state is None:
        begun = begin()
        state, task_masks = learner.state(begun.snapshot), begun.task_masks
        initial = begun.cost
    else:
        monitor.expect(-len(records))  # all days were announced
    for day in days[len(records) :]:
        with monitor.training(*name, f"day {day}"):
            found, cost = {}, Cost()
            if day == days[0]:
                cost = initial
            else:
                found = learner.judge(day, state, task_masks)
                if update == "daily, masks found again" and day != days[-1]:
                    task_masks, cost = learner.find_masks_again(day, state)
            if update != "never" and day != days[-1]:
                state, spent = learner.learn(day, state, task_masks)
                cost = cost.plus(spent)
        records.append({"day": day, "metrics": found, "cost": cost._asdict()})
        _keep(keeper, state, task_masks, records)
    return records


def _keep(keeper: Folder, state, task_masks, records) -> None:
    packed = {
        f"{task}/{path}": bits
        for task, mask in task_masks.items()
        if mask is not None
        for path, bits in masks.pack(mask).items()
    }
    text = np.frombuffer(json.dumps(records).encode(), np.uint8)
    keeper.aside = {"records": text, **packed}
    keeper.save(Progress(state, None, {}, ()))


def _restore(
    learner: Learner, keeper: Folder
) -> tuple[TrainState | None, dict[str, Mask | None], list[dict[str, Any]]]:
    kept = keeper.restore()
    if kept is None:
        return None, {}, []
    task_masks = {}
    for task, like in learner.dense().items():
        bits = {
            name.removeprefix(f"{task}/"): array
            for name, array in keeper.aside.items()
            if name.startswith(f"{task}/")
        }
        task_masks[task] = None if like is None else masks.unpack(bits, like)
    records = json.loads(keeper.aside["records"].tobytes())
    return kept.state, task_masks, records


def keep(where: Path, setup: Setup) -> Folder:
    """Where a method's progress is kept: saved after every day."""
    return Folder(
        where, setup, every=0.0, wants_stop=stopping.requested, say=progress.say
    )
