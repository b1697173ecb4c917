"""What a mask finder is: it scores weights, and `pruning.select` keeps the best.

A finder sees a net at the end of a round's training and the round's mask. It never
chooses how many weights stay, nor from which layers: a new way to find masks is a new
way to score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from jaxmtl.sparsity.pruning import mean_score
from jaxmtl.types import Array, Key, Mask, Params


class Score(Protocol):
    """How much each weight is worth; the least fall."""

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


class Finder(NamedTuple):
    """A way to find masks as pure functions.

    Attributes:
      score: (net, mask, gradients, key) -> scores.
      batches: training batches over which gradients are taken, at the weights that
        are scored; 0 = none are needed.
      of_neuron: (scores [in, out], alive [in, out]) -> [out], the score of whole
        neurons from those of their incoming weights; a function of a module.
    """

    score: Score
    batches: int = 0
    of_neuron: Callable[[Array, Array], Array] = mean_score

    @property
    def needs_gradients(self) -> bool:
        """Whether a round's search computes gradients for it."""
        return self.batches > 0


def over(mask: Mask, function: Callable[..., Array], *trees: Params) -> Any:
    """A tree like `mask`: `function` of the trees' leaves where there is a mask."""
    leaf = lambda m, *values: None if m is None else function(*values)
    return jax.tree.map(leaf, mask, *trees, is_leaf=lambda m: m is None)
