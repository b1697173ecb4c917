"""A search's finder: the configured one, with the data that it needs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
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
        by_layer = self.unit == "weight" and self.scope == "layer"
        counts = pruning.split_keep(mask, keep) if by_layer else keep
        program = _program(self.options, self.unit, self.scope)
        return program(best.net, mask, counts, gradients, self._key("finder", number))

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


@functools.lru_cache(maxsize=64)
def _program(options: Any, unit: str, scope: pruning.Scope) -> Callable[..., Mask]:
    """The next mask as one compiled program of (net, mask, keep, gradients, key)."""
    finder = discovery.make(options)
    of_neuron = finder.of_neuron if unit == "neuron" else None

    @jax.jit
    def find(net, mask, keep, gradients, key):
        scores = finder.score(net, mask, gradients=gradients, key=key)
        return pruning.select(scores, mask, keep, scope, of_neuron)

    return find


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
