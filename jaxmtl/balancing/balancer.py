"""What a balancer is, and the parts that several of them are made of.

A balancer turns the losses of a step into one gradient. It has the shape of an optax
transformation: `init` makes a state of arrays, `combine` is pure. It sees the losses,
a pull-back of them and the masks, never the model or the batch.

What tasks share is the net's `shared` part. Norms, inner products and surgery are taken
there alone; a task's own part and the rows of the tables get the sum of the tasks'
gradients. A mask needs no further care in a norm: what a task does not see has gradient
zero.

Tasks are taken in the order of their names: compiled code sorts the keys of a dict, so
the order in which they were declared would not survive.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxmtl.sparsity import masks
from jaxmtl.types import Array, Key, Mask, Params

State = Any
"""A balancer's state: a pytree of arrays whose types no step changes."""
Weights = Mapping[str, Array]
"""Task -> float32 scalar."""
Gradients = tuple[Params, Mapping[str, Array]]
"""Of the net, and of the rows that were read of each stack of tables."""
Pull = Callable[..., Gradients]
"""pull(cotangents, rest=1.0): the gradient of Σ c_t L_t + rest · auxiliary losses.

Of a task that `cotangents` leaves out nothing is computed, where that can be avoided.
"""


class Init(Protocol):
    """Makes the state that training starts from."""

    def __call__(
        self, tasks: Mapping[str, str], key: Key, weights: Mapping[str, Any]
    ) -> State:
        """
        Args:
          tasks: task -> name of its loss (`jaxmtl.losses.LossName`).
          key: for all that is ever drawn; its `jax.random.key_data`, which a file can
            hold and `jax.random.fold_in` takes as it takes a key.
          weights: task -> weight of its loss, which may be traced; 1 where left out.

        Raises:
          ValueError: a weight is of no task.
        """
        ...


class Combine(Protocol):
    """The gradient that a step follows."""

    def __call__(
        self,
        losses: Mapping[str, Array],
        pull: Pull,
        state: State,
        *,
        masks: Mapping[str, Mask | None],
        counts: Mapping[str, Array],
        step: Array,
        learning_rate: Array,
    ) -> tuple[Gradients, State, dict[str, Array]]:
        """
        Args:
          losses: task -> its mean loss, a scalar, for the tasks of the step.
          pull: gradients of these losses.
          state: of `init`, or what the step before returned.
          masks: task -> what it sees of the net; None, all of it.
          counts: task -> rows of the batch that its loss counts. A task without
            any is left out: neither it nor what is kept for it moves.
          step: int32 scalar. Draws follow from it and the key of `init`.
          learning_rate: float32 scalar, that of the net in this step.

        Returns:
          The gradient, the next state, and task -> weight of its loss in this step,
          for a log. Auxiliary losses are in the gradient with weight 1.
        """
        ...


class Balancer(NamedTuple):
    """A loss weighting or gradient surgery as pure functions.

    Attributes:
      init: (tasks, key, weights) -> state.
      combine: (losses, pull, state, …) -> gradient, state, weights for a log.
      after: (state, losses before, losses after the step) -> state; None where the
        forward pass that it costs is not needed.
      schedules: of steps that it can serve: `sum` (one step on all tasks) and
        `alternate` (a step a task in turn).
      needs_shared: whether it does nothing where tasks share no part of the net. Such
        a net is then refused.
    """

    init: Init
    combine: Combine
    after: Callable[[State, Weights, Weights], State] | None = None
    schedules: tuple[str, ...] = ("sum",)
    needs_shared: bool = False


def task_weights(
    tasks: Mapping[str, str], weights: Mapping[str, Any]
) -> dict[str, Array]:
    """Task -> weight given to its loss, a float32 scalar; 1 where none is given.

    Raises:
      ValueError: a weight is of no task; suggests the nearest.
    """
    for name in weights:
        if name not in tasks:
            near = difflib.get_close_matches(name, tasks, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"a weight is given to {name!r}, which is no task; {hint}tasks are"
                f" {sorted(tasks)}"
            )
    return filled(tasks) | {n: jnp.asarray(w, jnp.float32) for n, w in weights.items()}


def filled(tasks: Mapping[str, Any], value: float = 1.0) -> dict[str, Array]:
    """Task -> the same float32 scalar for each."""
    return {name: jnp.asarray(value, jnp.float32) for name in tasks}


def present(weights: Weights, counts: Mapping[str, Array]) -> dict[str, Array]:
    """The weights of the tasks of a step; 0 for one without a row in the batch."""
    return {n: jnp.where(count > 0, weights[n], 0) for n, count in counts.items()}


def pull_each(pull: Pull, weights: Weights) -> tuple[dict[str, Gradients], Gradients]:
    """The gradient of each task's weighted loss, and that of the auxiliary losses."""
    each = {name: pull({name: weights[name]}, 0.0) for name in sorted(weights)}
    return each, pull({}, 1.0)


def total(trees: Sequence[Any]) -> Any:
    """The sum of trees of one structure, leaf by leaf."""
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *trees)


def scaled(tree: Any, factor: Array | float) -> Any:
    """A tree of arrays times a scalar; the arrays keep their types."""
    return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), tree)


def shared(gradients: Gradients, mask: Mask | None = None) -> Params:
    """What lies in the part of the net that tasks share; 0 outside a mask."""
    part = gradients[0]["shared"]
    return part if mask is None else masks.apply(part, mask["shared"])


def with_shared(gradients: Gradients, part: Params) -> Gradients:
    """The gradients with another one of what tasks share."""
    net, rows = gradients
    return {**net, "shared": part}, rows


def inner(a: Params, b: Params) -> Array:
    """The inner product of two trees, a float32 scalar; 0 without a leaf."""
    # Unasked, accelerators round a product's factors to bfloat16 or TF32.
    dot = lambda x, y: jnp.vdot(x, y, precision=jax.lax.Precision.HIGHEST)
    products = jax.tree.leaves(jax.tree.map(dot, a, b))
    return sum(products, jnp.zeros((), jnp.float32)).astype(jnp.float32)


def norm(tree: Params) -> Array:
    """The Euclidean norm of a tree, a float32 scalar."""
    return jnp.sqrt(inner(tree, tree))


def gramian(trees: Sequence[Params]) -> Array:
    """The inner products of some trees with each other, float32 [n, n]."""
    products = {
        (i, j): inner(trees[i], trees[j])
        for i in range(len(trees))
        for j in range(i + 1)
    }
    row = lambda i: [products[max(i, j), min(i, j)] for j in range(len(trees))]
    return jnp.stack([jnp.stack(row(i)) for i in range(len(trees))])


def adam_init(values: Weights) -> dict[str, optax.OptState]:
    """The state of `adam_step`: moments and a count for each task's own number."""
    return {name: optax.scale_by_adam().init(value) for name, value in values.items()}


def adam_step(
    values: Weights,
    gradients: Weights,
    state: Mapping[str, optax.OptState],
    moves: Mapping[str, Array],
    rate: Array,
) -> tuple[dict[str, Array], dict[str, optax.OptState]]:
    """One step of Adam (Kingma and Ba, 2015) on a learned number of each task.

    Args:
      values: what is learned.
      gradients: task -> scalar, of the tasks at hand; the others stay as they are.
      state: of `adam_init`.
      moves: task -> bool scalar; where False, a number and its moments stay too.
      rate: of learning.

    Returns:
      The new values and the new state.
    """
    values, state = dict(values), dict(state)
    for name, gradient in gradients.items():
        old = values[name], state[name]
        direction, moments = optax.scale_by_adam().update(gradient, state[name])
        value = (values[name] - rate * direction).astype(jnp.float32)
        values[name], state[name] = jax.tree.map(
            lambda new, kept, at=moves[name]: jnp.where(at, new, kept),
            (value, moments),
            old,
        )
    return values, state
