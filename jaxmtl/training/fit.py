"""Training with early stopping on validation; one snapshot serves all tasks.

Choosing each task's own best epoch would describe models that no product can
serve together. The snapshot kept is that of the epoch with the smallest mean
over the tasks of the *regret on validation*: (1 − AUC) / .5 for a task judged
by AUC, MSE / variance of the labels for one judged by MSE, so that 1 is no skill
and 0 perfection for both. Each task's own best epoch is reported beside it.

All that the rest of a training depends on is its `Progress`, so one that was
stopped between two chunks of steps goes on to the same bits.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple, Protocol

import jax
import numpy as np

from jaxmtl import metrics
from jaxmtl.data.batches import Plan
from jaxmtl.data.batches.chunks import read_chunks
from jaxmtl.data.batches.large_plan import LargePlan
from jaxmtl.devices import sharding
from jaxmtl.spaces import with_joint
from jaxmtl.training.feed import place
from jaxmtl.training.guard import BadBatch, NonFiniteLoss, bad_steps
from jaxmtl.training.inference import predict_all
from jaxmtl.training.spec import Setup
from jaxmtl.training.train import make_epoch
from jaxmtl.training.train_state import Snapshot, TrainState, make_gates, snapshot_of
from jaxmtl.types import Mask, Rows, Task

CHUNK = 256
"""Steps that run at most before the host looks at them."""
OnNonFinite = Literal["stop", "skip"]


class EpochRecord(NamedTuple):
    """One epoch.

    Attributes:
      epoch: counted from 1.
      losses: task -> mean training loss over the steps that moved something; 0 counts
        for a step without a row of the task.
      validation: task -> its metric; None = undefined.
      regrets: task -> its `regret`.
      skipped: steps that moved nothing, as a loss or gradient was not finite.
    """

    epoch: int
    losses: dict[str, float]
    validation: dict[str, float | None]
    regrets: dict[str, float]
    skipped: int = 0

    @property
    def regret(self) -> float:
        """The tasks' mean regret, which decides."""
        return sum(self.regrets.values()) / len(self.regrets)


Masks = Mapping[str, Mask | None]
"""Task -> mask."""


class Between(Protocol):
    """A hook between two steps, such as a finder that moves masks."""

    def __call__(
        self, state: TrainState, task_masks: Masks
    ) -> tuple[TrainState, Masks]:
        """The state and the masks that the next step begins with.

        What it keeps between calls it finds in `state.extra`, where the training's
        first state has it under the hook's name, in arrays of NumPy's dtypes (of a key,
        `jax.random.key_data`); trees and shapes may not change. All that it does
        follows from its arguments, draws too (from `state.step` and a key in `extra`):
        then a training that was stopped goes on to the same bits.
        """
        ...


class Progress(NamedTuple):
    """A training under way, between two chunks of steps.

    The rows of a step follow from (seed, epoch, step), and no step draws at random:
    the position in the data is all there is to know of either.

    Attributes:
      state: tables, net, moments and the number of steps.
      best: the snapshot of the best epoch; None before one has ended.
      losses: task -> float32 [steps taken of the epoch under way].
      history: the epochs that have ended.
      masks: task -> mask, where a hook moves masks (`Between`); None without one.
      best_masks: those that the best snapshot was validated under, likewise.
    """

    state: TrainState
    best: Snapshot | None
    losses: dict[str, np.ndarray]
    history: tuple[EpochRecord, ...]
    masks: Masks | None = None
    best_masks: Masks | None = None

    @property
    def epoch(self) -> int:
        """The epoch under way, counted from 1."""
        return len(self.history) + 1

    @property
    def taken(self) -> int:
        """Steps taken of the epoch under way."""
        return max((len(column) for column in self.losses.values()), default=0)

    @property
    def best_epoch(self) -> int:
        """The first epoch of the smallest regret; 0 before one has ended."""
        return min(self.history, key=lambda r: r.regret).epoch if self.history else 0


class Fit(NamedTuple):
    """A finished training.

    Attributes:
      best: the snapshot kept.
      best_epoch: its epoch, counted from 1.
      history: all epochs.
      own_best_epoch: task -> the epoch best for that task alone.
      masks: task -> mask, those that the snapshot was validated under.
    """

    best: Snapshot
    best_epoch: int
    history: tuple[EpochRecord, ...]
    own_best_epoch: dict[str, int]
    masks: Masks | None = None

    def value(self, task: str) -> float | None:
        """The task's validation metric at the snapshot kept."""
        return self.history[self.best_epoch - 1].validation[task]


class Keeper(Protocol):
    """Keeps a training's progress; `jaxmtl.training.resume.Folder` does so on disk."""

    def restore(self, like: Progress) -> Progress | None:
        """The progress saved last; None where none was.

        `like` is where the training would begin: `extra` and masks have its shapes.
        """

    def save(self, progress: Progress) -> None:
        """Called after each chunk; saves or not. Copies: the state is donated next."""


def regret(task: Task, value: float | None, labels: Mapping[str, np.ndarray]) -> float:
    """How far from perfect a validation metric is: 1 = no skill, 0 = perfect.

    An undefined metric has regret 1, so that the other tasks decide.
    """
    if value is None:
        return 1.0
    if task.metric == "auc":
        return (1 - value) / 0.5
    column = np.asarray(labels[task.name], np.float64)
    variance = float(np.var(column[task.inside(labels)]))
    return value / variance if variance > 0 else 1.0


def fit(
    setup: Setup,
    state: TrainState,
    task_masks: Mapping[str, Mask],
    *,
    plan: Plan | LargePlan,
    train: Rows,
    validation: Rows,
    seed: int,
    epochs: int,
    patience: int,
    on_epoch: Callable[[EpochRecord, Snapshot], None] = lambda record, snapshot: None,
    keeper: Keeper | None = None,
    between: Between | None = None,
    every: int | None = None,
    chunk: int = CHUNK,
    on_nonfinite: OnNonFinite = "stop",
) -> Fit:
    """Trains until validation has not improved for `patience` epochs.

    Args:
      setup: the static part of the program.
      state: where to start; donated.
      task_masks: task -> mask.
      plan: the batches of the training split.
      train: training rows on the device; on the host for a mesh, and where they are
        too many (`read_chunks`).
      validation: validation rows, likewise.
      seed: of the order of the data, together with the epoch.
      epochs: the most there may be, at least 1.
      patience: epochs without a smaller regret before stopping.
      on_epoch: called after each epoch with its record and a snapshot; not again
        for those that a restored training had ended.
      keeper: restores a training that was stopped, and saves this one's progress.
      between: called before an epoch's step 0, `every`, 2 `every`, … but not before
        the first step of all; what is validated, kept and saved is what the step before
        ended with.
      every: None = between epochs alone.
      chunk: steps that run at most before the host looks at them.
      on_nonfinite: whether a step whose loss or gradient is not finite ends the
        training or is passed over; it moves nothing in either case.

    Raises:
      NonFiniteLoss: such a step, with its batch; predictions that an epoch broke;
        an epoch of a task that skipped every step.
      ValueError: `between` returns other trees or shapes than it was given.
    """
    epoch_program, to_devices = make_epoch(setup), functools.partial(place, setup)
    labels = {name: np.asarray(column) for name, column in validation.labels.items()}
    labels = with_joint(setup.schema, labels)
    begun = Progress(state, None, {}, (), task_masks if between else None)
    progress = (keeper.restore(begun) if keeper else None) or begun
    if between:
        task_masks = progress.masks
    task_masks, gates = _seen(setup, progress.state, task_masks)
    while not _is_over(progress, epochs, patience):
        bounds = _chunks(plan.steps, chunk, progress.taken, every)
        reading = read_chunks(plan, train, seed, progress.epoch, bounds, to_devices)
        with contextlib.closing(reading) as parts:
            for part in parts:
                is_time = part.start % (every or plan.steps) == 0
                if between and is_time and (progress.history or progress.taken):
                    progress = _moved(between, progress)
                    task_masks, gates = _seen(setup, progress.state, progress.masks)
                state, losses = epoch_program(
                    progress.state, task_masks, gates, part.rows, part.steps
                )
                losses = {task: np.asarray(column) for task, column in losses.items()}
                if on_nonfinite == "stop":
                    before = (progress.epoch - 1) * plan.steps + part.start
                    _check_finite(setup, losses, part.numbers, before)
                progress = progress._replace(
                    state=state, losses=_joined(progress.losses, losses)
                )
                if keeper and part.stop < plan.steps:
                    keeper.save(progress)
        snapshot = snapshot_of(progress.state)
        step = progress.epoch * plan.steps
        values = _validate(setup, snapshot, task_masks, validation, labels, step)
        progress = _end_epoch(setup, progress, snapshot, values, labels)
        on_epoch(progress.history[-1], snapshot)
        if keeper:
            keeper.save(progress)
    own_best_epoch = {
        task: min(progress.history, key=lambda r: r.regrets[task]).epoch
        for task in setup.learned
    }
    return Fit(
        progress.best,
        progress.best_epoch,
        progress.history,
        own_best_epoch,
        progress.best_masks if between else task_masks,
    )


def _seen(setup: Setup, state: TrainState, task_masks: Masks) -> tuple[Masks, dict]:
    """Masks and the gates that follow from them, on all devices."""
    gates = make_gates(setup, state.net, task_masks)
    return sharding.copy_to_all(setup.mesh, (dict(task_masks), gates))


def _moved(between: Between, progress: Progress) -> Progress:
    """The progress as a hook between steps leaves it."""
    shapes = lambda *trees: jax.eval_shape(lambda *same: same, *trees)
    before = shapes(progress.state, dict(progress.masks))
    state, task_masks = between(progress.state, progress.masks)
    task_masks = dict(task_masks)
    if shapes(state, task_masks) != before:
        raise ValueError(
            "the hook between steps returned a state or masks of another tree or other"
            " shapes than it was given; put what it keeps into state.extra before the"
            " training begins"
        )
    return progress._replace(state=state, masks=task_masks)


def _is_over(progress: Progress, epochs: int, patience: int) -> bool:
    ended = len(progress.history)
    return ended >= epochs or ended - progress.best_epoch >= patience


def _chunks(
    steps: int, most: int, taken: int, every: int | None = None
) -> Iterator[tuple[int, int]]:
    """First step and end of each chunk that is left.

    One ends wherever a hook is called. Between two such places they are equal, and one
    program, where up to twice as many as there must be can be; otherwise they differ by
    one step, and two programs are compiled. What is left at the end may take more.
    """
    every = every or steps
    for first in range(0, steps, every):
        size = min(every, steps - first)
        least = -(-size // most)
        equal = (n for n in range(least, 2 * least + 1) if size % n == 0)
        number = next(equal, least)
        for end in (first + size * (i + 1) // number for i in range(number)):
            if taken < end:
                yield taken, end
                taken = end


def _joined(before: Mapping, after: Mapping) -> dict[str, np.ndarray]:
    if not before:
        return dict(after)
    return {task: np.concatenate([before[task], after[task]]) for task in after}


def _end_epoch(setup, progress: Progress, snapshot, values, labels) -> Progress:
    """The progress with the epoch under way in its history."""
    skipped = bad_steps(progress.losses, setup.kinds)
    means = {}
    for kind, task in ((k, task) for k, tasks in setup.kinds.items() for task in tasks):
        lost = [at for at, bad_kind, _ in skipped if bad_kind == kind]
        taken = np.delete(progress.losses[task], lost)
        if not taken.size:
            raise NonFiniteLoss(
                f"epoch {progress.epoch} skipped every step of task {task!r}; lower"
                " optimiser.learning-rate"
            )
        means[task] = float(taken.mean())
    regrets = {
        name: regret(task, values[name], labels) for name, task in setup.learned.items()
    }
    record = EpochRecord(progress.epoch, means, values, regrets, len(skipped))
    ended = progress._replace(losses={}, history=(*progress.history, record))
    is_best = ended.best_epoch == record.epoch
    if not is_best:
        return ended
    return ended._replace(best=snapshot, best_masks=progress.masks)


def _check_finite(setup, losses, orders, before: int) -> None:
    wrong = bad_steps(losses, setup.kinds)
    if wrong:
        at, kind, task = wrong[0]
        rows = np.asarray(orders[kind][at])
        batch = BadBatch(before + at + 1, task, rows[rows >= 0])
        raise NonFiniteLoss(
            f"the loss of task {task!r}, or its gradient, became {losses[task][at]} at"
            f" step {batch.step}; lower optimiser.learning-rate or look at the rows of"
            " that step",
            batch,
        )


def _validate(
    setup, snapshot, task_masks, rows, labels, step: int
) -> dict[str, float | None]:
    predictions = predict_all(setup, snapshot, task_masks, rows)
    values = {}
    for name, prediction in predictions.items():
        if not np.isfinite(prediction).all():
            raise NonFiniteLoss(
                f"task {name!r} no longer predicts finite values after step {step};"
                " lower optimiser.learning-rate"
            )
    for name, task in setup.learned.items():
        inside = task.inside(labels)
        score = metrics.auc if task.metric == "auc" else metrics.mse
        predicted = predictions[task.name][inside]
        values[name] = score(labels[task.name][inside], predicted).value
    return values
