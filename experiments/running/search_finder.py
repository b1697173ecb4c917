"""A search's finder: the configured one, with the data that it needs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from experiments.settings import sections
from experiments.settings.config import Config
from jaxmtl import discovery
from jaxmtl.data.batches import Plan
from jaxmtl.data.batches.large_plan import LargePlan
from jaxmtl.keys import named
from jaxmtl.sparsity import pruning
from jaxmtl.training import mask_moves
from jaxmtl.training.fit import Fit
from jaxmtl.training.gradients import mean_gradient
from jaxmtl.training.spec import Setup
from jaxmtl.training.train_state import Snapshot, TrainState
from jaxmtl.types import Key, Mask, Rows


@dataclasses.dataclass(frozen=True)
class SearchFinder:
    """How one search finds its masks, by the configured finder, unit and scope.

    Attributes:
      options: of the finder.
      unit: what falls, `weight` or `neuron`.
      scope: of the threshold, `global` or `layer`.
      setup: of the search's own training.
      dense: all weights that a mask may hold.
      data: the batches of that training, its rows and its seed, as keyword arguments.
    """

    options: Any
    unit: str
    scope: pruning.Scope
    setup: Setup
    dense: Mask
    data: dict[str, Any]

    def prune(self, best: Snapshot, mask: Mask, keep: int, number: int) -> Mask:
        """The mask that follows on a round's, from its best snapshot."""
        (task,), finder, gradients = self.setup.tasks, self._finder, None
        if finder.needs_gradients:
            gradients = mean_gradient(
                self.setup, best, {task: mask}, batches=finder.batches, **self.data
            )
        key = self._key("finder", number)
        scores = finder.score(best.net, mask, gradients=gradients, key=key)
        of_neuron = finder.of_neuron if self.unit == "neuron" else None
        return pruning.select(scores, mask, keep, self.scope, of_neuron)

    def begin(
        self, state: TrainState, mask: Mask, number: int
    ) -> tuple[TrainState, dict[str, Any]]:
        """A round's first state, and what `fit` is told so that its mask moves."""
        if self._finder.moves is None:
            return state, {}
        key = self._key("moves", number)
        hook = mask_moves.make_hook(
            self.options, self.setup, self.dense, key=key, **self.data
        )
        state = mask_moves.begin(self.options, state, mask, key)
        return state, {"between": hook, "every": self._finder.moves.every}

    def mask_of(self, result: Fit, mask: Mask) -> Mask:
        """The mask of a round's best epoch; `mask` is that which it began under."""
        (task,) = self.setup.tasks
        return mask if self._finder.moves is None else result.masks[task]

    @property
    def _finder(self):
        return discovery.make(self.options)

    def _key(self, what: str, number: int) -> Key:
        key = named(jax.random.key(self.data["seed"]), what, *self.setup.tasks)
        return jax.random.fold_in(key, number)


def make(
    config: Config,
    setup: Setup,
    dense: Mask,
    seed: int,
    plan: Plan | LargePlan,
    train: Rows,
) -> SearchFinder:
    """The finder of a search.

    Args:
      config: of the row.
      setup: of the search's own training.
      dense: the mask of its first round.
      seed: of the search.
      plan: the batches of that training.
      train: its rows.
    """
    prune = config.pruning
    data = {"plan": plan, "train": train, "seed": seed}
    return SearchFinder(
        sections.chosen(prune.finder), prune.unit, prune.scope, setup, dense, data
    )
