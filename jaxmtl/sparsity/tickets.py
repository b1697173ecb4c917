"""Finding a task's winning ticket by iterative magnitude pruning with rewinding.

LT4REC (Chen et al., 2022), Algorithm 1, lines 1-9, after Frankle and Carbin
(2019) and Sun et al. (2020). Knows no model and no data: it is told how to
start, how to train and how to prune.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from jaxmtl.sparsity import masks
from jaxmtl.types import Mask, Params


class Start(Protocol):
    """Where a round's training starts, of which a search reads the net."""

    net: Params


class Result(Protocol):
    """A finished training: its best snapshot, whose net is pruned, and epoch."""

    best: Start
    best_epoch: int


class Round(NamedTuple):
    """One round: a mask, and what the subnetwork under it reached.

    Attributes:
      mask: the round's mask; round 0 keeps everything.
      density: fraction of the first round's weights that it keeps.
      value: validation metric of the best epoch; None = undefined.
      best_epoch: counted from 1.
    """

    mask: Mask
    density: float
    value: float | None
    best_epoch: int


class Ticket(NamedTuple):
    """All rounds of a search and the number of the one chosen."""

    rounds: tuple[Round, ...]
    chosen: int

    @property
    def mask(self) -> Mask:
        return self.rounds[self.chosen].mask


def find(
    start: Callable[[int], Start],
    train: Callable[[Start, Mask, int], Result],
    value_of: Callable[[Result], float | None],
    prune: Callable[[Start, Mask, int, int], Mask],
    keeps: Sequence[int],
    dense: Mask | None = None,
    mask_of: Callable[[Result, Mask], Mask] = lambda result, mask: mask,
) -> tuple[Round, ...]:
    """Trains, prunes and rewinds, once for each entry of `keeps` and once more.

    The mask of a round comes from the best epoch of the round before, not from
    its last; the mask of the last round is trained too, since Algorithm 1
    chooses among the masks by their validation performance (line 8).

    Args:
      start: round -> the state it starts from, with empty optimiser slots: the
        initial weights again (`init`), those of an early step, or fresh ones.
      train: (state, mask, round) -> the finished training of the subnetwork.
      value_of: the task's validation metric of a training.
      prune: (best snapshot, mask, weights to keep, round) -> the next mask.
      keeps: how many weights survive each round, falling.
      dense: the mask of the first round; by default everything that can be pruned.
      mask_of: (finished training, the mask it began under) -> the mask of its best
        epoch, where a training moves it.

    Returns:
      `len(keeps) + 1` rounds, the first of them dense.
    """
    rounds: list[Round] = []
    state = start(0)
    mask = masks.full(state.net) if dense is None else dense
    size = masks.count(mask)
    for number in range(len(keeps) + 1):
        result = train(state, mask, number)
        mask = mask_of(result, mask)
        density = masks.count(mask) / size
        rounds.append(Round(mask, density, value_of(result), result.best_epoch))
        if number < len(keeps):
            # Whole neurons may have gone further than the counts asked for.
            keep = min(keeps[number], masks.count(mask))
            mask = prune(result.best, mask, keep, number)
            state = start(number + 1)
    return tuple(rounds)


def choose(
    rounds: Sequence[Round], metric: str, max_density: float | None = None
) -> int:
    """The round with the best validation metric (Algorithm 1, line 8).

    Args:
      rounds: of one search.
      metric: `auc` (higher is better) or `mse` (lower is better).
      max_density: consider only rounds of at most this density; the paper takes
        a sparse CTR mask for its cost though the dense one is best. Of equal
        rounds the sparser wins.

    Raises:
      ValueError: no round is sparse enough.
    """
    sign = 1.0 if metric == "auc" else -1.0
    limit = 1.0 if max_density is None else max_density
    # A density is a ratio of counts, of which `keep_counts` rounds: .7 of 97 is 68.
    half_a_weight = 0.5 / masks.count(rounds[0].mask)
    allowed = [i for i, r in enumerate(rounds) if r.density <= limit + half_a_weight]
    if not allowed:
        raise ValueError(
            f"no round has density <= {max_density}; the sparsest has"
            f" {rounds[-1].density:.4f}: lower pruning.final-density or raise"
            " pruning.max-density"
        )

    def key(i: int) -> tuple[float, int]:
        value = rounds[i].value
        return (-float("inf") if value is None else sign * value, i)

    return max(allowed, key=key)
