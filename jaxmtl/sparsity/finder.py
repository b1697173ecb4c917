"""What a mask finder is: it scores weights, and `pruning.select` keeps the best.

A finder sees a net at the end of a round's training and the round's mask. It never
chooses how many weights stay, nor from which layers: a new way to find masks is a new
way to score. One whose masks move while a round trains, as in dynamic sparse training,
says how by its `Moves`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from jaxmtl.sparsity.pruning import mean_score
from jaxmtl.types import Array, Key, Mask, Params


class Score(Protocol):
    """How much each weight is worth, traced in a program; the least fall."""

    def __call__(
        self, net: Params, mask: Mask, *, gradients: Params | None, key: Key
    ) -> Any:
        """
        Args:
          net: the trained net.
          mask: of the round that ends; bool leaves, None = never pruned.
          gradients: like `net`, of the task's mean loss over `Finder.batches`
            batches; None where the finder needs none.
          key: of this seed, task and round.

        Returns:
          A tree like `mask` of float leaves (`over`). Only their order among alive
          weights matters. NaN ranks highest.
        """
        ...


class Move(Protocol):
    """Moves a mask between two steps of a round's training; a pure function."""

    def __call__(
        self,
        net: Params,
        mask: Mask,
        kept: Any,
        *,
        dense: Mask,
        gradients: Params | None,
        step: Array,
        key: Key,
    ) -> tuple[Params, Mask, Any]:
        """
        Args:
          net: as it is now; weights outside the mask are as they were when they fell.
          mask: as it is now.
          kept: of `Moves.init`, or what the last move returned.
          dense: all weights that a mask may hold: those that the task reads.
          gradients: like `net`, at the net under its mask, of weights that the mask
            leaves out too; of the task's mean loss over the first `Moves.batches`
            batches of the epoch under way. None where no batches are asked for.
          step: int32, steps taken in this round.
          key: of this seed, task, round and step.

        Returns:
          The net, the mask and what is kept, of the same trees and shapes. Moments of
          the weights that have grown are emptied; what they start at is up to the net
          returned.
        """
        ...


class Moves(NamedTuple):
    """How a finder's mask moves while a round trains under it.

    Attributes:
      move: see `Move`.
      every: steps of an epoch from one move to the next; there is one between epochs.
      init: (net, mask, key) -> what is kept from move to move: arrays that NumPy has
        dtypes for (of a key, `jax.random.key_data`).
      batches: over which gradients are taken; 0 = none are needed.
    """

    move: Move
    every: int
    init: Callable[[Params, Mask, Key], Any] = lambda net, mask, key: ()
    batches: int = 0


class Finder(NamedTuple):
    """A way to find masks as pure functions.

    Attributes:
      score: (net, mask, gradients, key) -> scores.
      batches: training batches over which gradients are taken, at the weights that
        are scored; 0 = none are needed.
      of_neuron: (scores [in, out], alive [in, out]) -> [out], the score of whole
        neurons from those of their incoming weights; a function of a module.
      moves: how masks move while a round trains; None = they do not.
    """

    score: Score
    batches: int = 0
    of_neuron: Callable[[Array, Array], Array] = mean_score
    moves: Moves | None = None

    @property
    def needs_gradients(self) -> bool:
        """Whether a round's search computes gradients for it."""
        return self.batches > 0


def over(mask: Mask, function: Callable[..., Array], *trees: Params) -> Any:
    """A tree like `mask`: `function` of the trees' leaves where there is a mask."""
    leaf = lambda m, *values: None if m is None else function(*values)
    return jax.tree.map(leaf, mask, *trees, is_leaf=lambda m: m is None)
