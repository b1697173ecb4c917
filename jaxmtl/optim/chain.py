"""Any optimiser of optax's that works by element, made to stop at gates.

Sparse sharing trains one net with a mask a task. A plain optimiser would keep moving
the other tasks' weights on their momentum in every step; here a weight outside the
step's gates keeps its value, its moments and its counts to the bit.

Gates are a tree over the net of bools, one for a leaf or one for each of its weights
(`jaxmtl.sparsity.masks.gates`). They, the learning rate and the weight decay are
arguments of `update` and may be traced: neither another mask nor another rate compiles
a program or is hidden in a state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxmtl.types import Array, Mask, Params


class Gated(optax.GradientTransformationExtraArgs):
    """A direction that keeps the state of closed weights by itself.

    Its `update(gradients, state, net, *, gates)` takes the gate of the leaf or weight
    at hand and returns the state as it was where this is False. It is worth it where
    speed counts (see `optimisers.adam`); for all others `per_weight` does so.
    """


def make(
    direction: optax.GradientTransformation,
    counted: Params,
    *,
    clip: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The optimiser of a net that moves along `direction` where its gates are open.

    Its `update(gradients, state, net, *, gates, learning_rate, weight_decay)` gives
    u = -learning_rate (direction + weight_decay w), the decay (decoupled: Loshchilov
    and Hutter, 2019) on kernels alone. `apply_updates` adds u to the net.

    Args:
      direction: works by element and knows neither rate nor decay, such as those in
        `jaxmtl.optim.optimisers` (see `per_weight`).
      counted: over the net, Python bools: whether its gates are one for each weight.
      clip: largest norm of the gradients that pass the gates; None does not clip.

    Raises:
      ValueError: `clip` is no positive number.
    """
    if clip is not None and not 0 < clip < math.inf:
        raise ValueError(f"clip is {clip}; give a positive norm, or None not to clip")
    return optax.chain(
        mask_gradients(),
        optax.identity() if clip is None else optax.clip_by_global_norm(clip),
        per_weight(direction, counted),
        decay_kernels(),
        scale_by_rate(),
        gate_updates(),
    )


def apply_updates(net: Params, updates: Params, gates: Params) -> Params:
    """`net + updates` where the gates are open, and `net` to the bit elsewhere.

    `optax.apply_updates` does the same but for weights below 1.2e-38, which a
    processor that flushes such numbers makes 0 even by adding -0.0.
    """
    place = _place(gates, net)
    moved = optax.apply_updates(net, updates)
    leaf = lambda path, new, old: jnp.where(place[path], new, old)
    return jax.tree_util.tree_map_with_path(leaf, moved, net)


def emptied(
    optimiser: optax.GradientTransformation, state: Any, net: Params, where: Mask
) -> Any:
    """A state in which some weights have moments and counts as in the beginning.

    Args:
      optimiser: whose state it is.
      state: over the net; what it has of whole leaves is left alone.
      net: at which the optimiser begins.
      where: a mask over the net, True at those weights.
    """
    marks = dict(_by_path(where))

    def leaf(path, old, new):
        # A moment lies at its weight's own path, below what the state calls it.
        ends = (path[at:] for at in range(len(path)))
        mark = next((marks[end] for end in ends if end in marks), None)
        if mark is None or jnp.shape(old) != mark.shape:
            return old
        return jnp.where(mark, new, old)

    return jax.tree_util.tree_map_with_path(leaf, state, optimiser.init(net))


def mask_gradients() -> optax.GradientTransformationExtraArgs:
    """Makes gradients behind closed gates 0, whatever they are.

    First in a chain: what sums over weights, such as a clipping by global norm, then
    sees only those that move.
    """
    return _gated(lambda gate, gradient: jnp.where(gate, gradient, 0))


def gate_updates() -> optax.GradientTransformationExtraArgs:
    """Makes updates behind closed gates -0.0, the number that adds nothing.

    Last in a chain: +0.0 would turn a weight of -0.0 into +0.0.
    """
    return _gated(lambda gate, update: jnp.where(gate, update, -0.0))


def decay_kernels() -> optax.GradientTransformationExtraArgs:
    """Adds `weight_decay` times the weight to the updates of kernels.

    Unlike `optax.add_decayed_weights` it takes the decay as an argument of `update`.
    """

    def update(updates, state, net=None, *, weight_decay, **others):
        del others

        def leaf(path, u, w):
            is_kernel = bool(path) and getattr(path[-1], "key", None) == "kernel"
            return u + jnp.asarray(weight_decay, u.dtype) * w if is_kernel else u

        return jax.tree_util.tree_map_with_path(leaf, updates, net), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def scale_by_rate() -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by `-learning_rate`.

    Unlike `optax.scale_by_learning_rate` it takes the rate as an argument of `update`.
    """

    def update(updates, state, net=None, *, learning_rate, **others):
        del net, others
        leaf = lambda u: -jnp.asarray(learning_rate, u.dtype) * u
        return jax.tree.map(leaf, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def per_weight(
    inner: optax.GradientTransformation, counted: Params
) -> optax.GradientTransformationExtraArgs:
    """Keeps the state of `inner` for each weight, and as it was behind closed gates.

    Weights of one kernel may have been moved a different number of times, so what
    `inner` counts (for a bias correction, say) is counted for each of them: `inner` is
    mapped over the weights of the leaves that are counted. The other leaves open and
    close as a whole and have one count.

    Args:
      inner: works by element, that is, what it does to a weight depends on the
        gradients, the value and the state of this weight, not on its neighbours, its
        path or a random draw: not a clipping by norm, a trust ratio or a factored
        moment. The tests of `jaxmtl.optim.optimisers` show which do not.
      counted: over the net, Python bools: whether its gates are one for each weight.

    Returns:
      A transformation with the argument `gates`. Its state is that of `inner` with a
      tree over the net in the place of each leaf: moments and counts shaped like the
      weights of a counted leaf; one count for another leaf.
    """
    inner = optax.with_extra_args_support(inner)

    def init(net):
        def leaf(is_counted, w):
            return jax.tree.map(_strong, _map(inner.init, is_counted, w)(w))

        counts = _place(counted, net, "counted")
        leaves = [leaf(counts[path], w) for path, w in _by_path(net)]
        return _join(leaves, _structure(inner), jax.tree.structure(net))

    def update(updates, state, net=None, *, gates, **others):
        def weight(gate, u, old, w):
            if isinstance(inner, Gated):
                return inner.update(u, old, w, gates=gate, **others)
            u, new = inner.update(u, old, w, **others)
            keep = lambda n, o: jnp.where(gate, n, o).astype(o.dtype)
            return u, jax.tree.map(keep, new, old)

        counts, open_ = _place(counted, updates, "counted"), _place(gates, updates)
        whole, paths = jax.tree.structure(updates), _by_path(updates)
        weights = [None] * len(paths) if net is None else whole.flatten_up_to(net)
        states = _split(state, _structure(inner), whole)
        moved, kept = [], []
        for (path, u), old, w in zip(paths, states, weights, strict=True):
            gate = open_[path]
            if counts[path]:
                gate = jnp.broadcast_to(gate, u.shape)
            elif gate.ndim:
                raise ValueError(
                    f"the gates of {_name(path)} are {gate.shape}, but its weights are"
                    " not counted one by one; make `counted` True there"
                )
            u, new = _map(weight, counts[path], u)(gate, u, old, w)
            moved.append(u)
            kept.append(new)
        return whole.unflatten(moved), _join(kept, _structure(inner), whole)

    return optax.GradientTransformationExtraArgs(init, update)


def _gated(leaf: Callable[..., Array]) -> optax.GradientTransformationExtraArgs:
    """The stateless transformation of each update by (gate, update)."""

    def update(updates, state, net=None, *, gates, **others):
        del net, others
        place = _place(gates, updates)
        one = lambda path, u: leaf(place[path], u)
        return jax.tree_util.tree_map_with_path(one, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _map(function: Callable, is_counted: bool, like: Array) -> Callable:
    """`function`, mapped over every weight of a leaf that is counted."""
    for _ in range(like.ndim if is_counted else 0):
        function = jax.vmap(function)
    return function


def _strong(value) -> Array:
    """With a type that no arithmetic changes: a scan carries it."""
    return jnp.asarray(value, jnp.asarray(value).dtype)


def _structure(inner: optax.GradientTransformation):
    """The structure of the state that `inner` has of one weight."""
    weight = jax.ShapeDtypeStruct((), jnp.float32)
    return jax.tree.structure(jax.eval_shape(inner.init, weight))


def _join(states: list, inner, net) -> Any:
    """States leaf by leaf -> a state of `inner`'s structure with trees over the net."""
    rows = [inner.flatten_up_to(state) for state in states]
    return inner.unflatten(
        [net.unflatten([row[i] for row in rows]) for i in range(inner.num_leaves)]
    )


def _split(state: Any, inner, net) -> list:
    """The inverse of `_join`."""
    columns = [net.flatten_up_to(tree) for tree in inner.flatten_up_to(state)]
    return [
        inner.unflatten([column[i] for column in columns])
        for i in range(net.num_leaves)
    ]


def _by_path(tree: Params) -> list[tuple]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _place(tree: Params, net: Params, what: str = "gates") -> dict:
    """Path -> leaf of a tree of bools over the net.

    Raises:
      ValueError: it is no such tree; names the first path that is wrong.
    """
    found, expected = dict(_by_path(tree)), dict(_by_path(net))
    for path in [*expected, *found]:
        if path not in found or path not in expected:
            holder = "the net" if path not in found else what
            raise ValueError(
                f"only {holder} has a leaf at {_name(path)!r}; {what} is a tree over"
                " the net with a bool at every leaf (a mask is none: see masks.gates)"
            )
    if what == "counted":
        return found
    found = {path: jnp.asarray(gate) for path, gate in found.items()}
    for path, gate in found.items():
        shape = jnp.shape(expected[path])
        if gate.dtype != bool or gate.shape not in ((), shape):
            raise ValueError(
                f"gates hold {gate.dtype}{list(gate.shape)} at {_name(path)!r}; give"
                f" bools, one for the leaf or {list(shape)} for its weights"
            )
    return found
