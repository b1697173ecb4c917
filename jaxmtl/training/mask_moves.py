"""Dynamic sparse training: masks that move while a round trains under them.

A finder says how (`jaxmtl.sparsity.finder.Moves`). What it keeps lies in the training's
state, so a training that was stopped goes on to the same bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxmtl import discovery
from jaxmtl.data.batches import Plan
from jaxmtl.data.batches.large_plan import LargePlan
from jaxmtl.optim import chain
from jaxmtl.sparsity import masks
from jaxmtl.sparsity.finder import over
from jaxmtl.training.fit import Between
from jaxmtl.training.gradients import mean_gradient
from jaxmtl.training.spec import Setup, StepSpec
from jaxmtl.training.train_state import TrainState, make_optimiser, snapshot_of
from jaxmtl.types import Key, Mask, Rows

NAME = "finder"
"""Under which `TrainState.extra` holds what a finder keeps."""


def begin(finder: Any, state: TrainState, mask: Mask, key: Key) -> TrainState:
    """The state that a round of such a finder starts in.

    Args:
      finder: options of one of `jaxmtl.sparsity.finders`, which has `moves`.
      state: of the round's start.
      mask: the round's.
      key: of the seed, task and round.
    """
    kept = discovery.make(finder).moves.init(state.net, mask, key)
    return state._replace(extra=state.extra | {NAME: jax.tree.map(jnp.array, kept)})


def make_hook(
    finder: Any,
    setup: Setup,
    dense: Mask,
    *,
    plan: Plan | LargePlan,
    train: Rows,
    seed: int,
    key: Key,
) -> Between:
    """What `fit` is to call every `moves.every` steps.

    Args:
      finder: as of `begin`.
      setup: of the round's training, which has one task.
      dense: all weights that a mask may hold.
      plan: the batches of that training.
      train: its rows.
      seed: of the order of the data.
      key: as of `begin`.
    """
    (task,), moves = setup.tasks, discovery.make(finder).moves
    program = _program(finder, setup.spec.step, task)

    def between(state: TrainState, task_masks):
        mask, gradients = task_masks[task], None
        if moves.batches:
            seen = snapshot_of(state)
            gradients = mean_gradient(
                setup,
                seen._replace(net=masks.apply(seen.net, mask)),
                {task: masks.full(seen.net, task)},
                plan=plan,
                train=train,
                seed=seed,
                batches=moves.batches,
                epoch=1 + int(state.step) // plan.steps,
            )
        state, mask = program(state, mask, dense, gradients, key)
        return state, {task: mask}

    return between


@functools.lru_cache(maxsize=64)
def _program(finder: Any, step: StepSpec, task: str) -> Callable:
    """A compiled move: (state, mask, dense, gradients, key) -> (state, mask)."""
    move = discovery.make(finder).moves.move

    @jax.jit
    def program(state, mask, dense, gradients, key):
        net, moved, kept = move(
            state.net,
            mask,
            state.extra[NAME],
            dense=dense,
            gradients=gradients,
            step=state.step,
            key=jax.random.fold_in(key, state.step),
        )
        grown = over(mask, lambda old, new: new & ~old, mask, moved)
        optimiser = make_optimiser(step, masks.gates(net, {task: moved}))
        slots = {
            slot: chain.emptied(optimiser, old, net, grown)
            for slot, old in state.opt.slots.items()
        }
        extra = state.extra | {NAME: kept}
        opt = state.opt._replace(slots=slots)
        return state._replace(net=net, opt=opt, extra=extra), moved

    return program
