"""Which weights, or which neurons, survive a round of pruning.

LT4REC (Chen et al., 2022), Algorithm 1, step (b): after training, the weights
of smallest magnitude leave the mask. The rate is the same every round and taken
over the survivors (Frankle and Carbin, 2019, iterative pruning). S-Neuron, the
paper's variant, removes whole neurons. Other ways to score weights are files of
`jaxmtl.sparsity.finders`; `select` chooses by any scores. Everything here is array
code over any tree of kernels: it knows no model, and a mask or a count that changes
never recompiles it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise, zip_longest
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.sparsity import selection
from jaxmtl.sparsity.masks import path_name
from jaxmtl.types import Array, Mask, Params

Scope = Literal["global", "layer"]
OfNeuron = Callable[[Array, Array], Array]


def keep_counts(alive: int, final_density: float, rounds: int) -> tuple[int, ...]:
    """How many weights survive each round, falling by one rate to the end.

    Each round removes the fraction 1 − final_density^(1/rounds) of those alive;
    .2 in 4 rounds leaves 66.87, 44.72, 29.91 and 20 %.

    Args:
      alive: weights at the start.
      final_density: fraction of them to survive the last round, in (0, 1].
      rounds: how many rounds, at least 1.

    Returns:
      `rounds` counts, the last of them round(final_density · alive).

    Raises:
      ValueError: a density or a number of rounds outside its range.
    """
    if not 0 < final_density <= 1:
        raise ValueError(
            f"final density {final_density} lies outside (0, 1]; give the fraction"
            " of weights to keep, such as 0.2"
        )
    if rounds < 1:
        raise ValueError(f"{rounds} pruning rounds; at least 1 is needed")
    return tuple(
        round(alive * final_density ** (i / rounds)) for i in range(1, rounds + 1)
    )


def split_keep(mask: Mask, keep: int) -> Any:
    """Shares `keep` between the layers in proportion to their survivors.

    Args:
      mask: bool leaves, None where nothing is pruned.
      keep: weights to keep altogether, 0 <= keep <= alive.

    Returns:
      A tree like `mask` of ints that sum to `keep`; what rounding leaves goes to
      the largest remainders (Hamilton), of equal ones to the first.

    Raises:
      ValueError: `keep` lies outside its range.
    """
    leaves, structure = jax.tree.flatten(mask)
    alive = [int(np.count_nonzero(leaf)) for leaf in leaves]
    _check_range(keep, sum(alive))
    shares = [divmod(n * keep, max(sum(alive), 1)) for n in alive]
    counts = [whole for whole, _ in shares]
    by_remainder = sorted(range(len(alive)), key=lambda i: -shares[i][1])
    for i in by_remainder[: keep - sum(counts)]:
        counts[i] += 1
    return structure.unflatten(counts)


def prune(net: Params, mask: Mask, keep: Any) -> Mask:
    """Keeps the `keep` largest |weights| of those still alive.

    LT4REC Algorithm 1, step (b). The quantile is taken over survivors: over all
    weights it would be zero from the second round on.

    Args:
      net: the trained net, of float leaves.
      mask: same structure; bool leaves shaped like net's, None = never pruned.
      keep: int32 scalar, 0 <= keep <= alive: one threshold for all layers. Or a
        tree like `mask` of such scalars: one threshold a layer. May be traced.
        An integer, since a float32 rate times 1e7 weights is off by one.

    Returns:
      A subset of `mask` with exactly `keep` entries set. Of equal |weights| the
      last in tree order, then index order, fall first. NaN ranks highest: a net
      that diverged stays seen to have.

    Raises:
      ValueError: the trees differ (names the first differing path), or a count
        is no integer or outside its range (where it is not traced).
    """
    return _prune(net, mask, keep)


def select(
    scores: Any,
    mask: Mask,
    keep: Any,
    scope: Scope = "global",
    of_neuron: OfNeuron | None = None,
) -> Mask:
    """Keeps what scores highest among what is alive.

    Args:
      scores: a tree like `mask` of float leaves; None where nothing is pruned.
      mask: bool leaves, None = never pruned.
      keep: how many weights, 0 <= keep <= alive. Of a scope `layer` inside a program
        the counts of `split_keep`.
      scope: `global`, one threshold for the net; `layer`, each layer keeps the same
        fraction of its survivors.
      of_neuron: (scores [in, out], alive [in, out]) -> [out] for whole neurons, as
        many as `keep` weights allow (`prune_neurons`); None for single weights.

    Returns:
      A subset of `mask`; of single weights with exactly `keep` set. Of equal scores
      the last in tree order, then index order, fall first. NaN ranks highest.

    Raises:
      ValueError: as `prune` and `prune_neurons`, or there is no such scope.
    """
    if scope not in get_args(Scope):
        raise ValueError(f"scope {scope!r} is none of {list(get_args(Scope))}")
    if of_neuron is not None:
        return prune_neurons(scores, mask, keep, scope=scope, of_neuron=of_neuron)
    if scope == "layer" and jax.tree_util.all_leaves([keep]):
        keep = split_keep(mask, keep)
    return _prune(scores, mask, keep, is_ranked=True)


def root_mean_square(weights: Array, alive: Array) -> Array:
    """What a neuron scores by its weights: see `prune_neurons`. [in, out] -> [out].

    Squared: the order is that of the root.
    """
    inputs = jnp.maximum(jnp.sum(alive, axis=0, dtype=jnp.int32), 1)
    square = jnp.sum(jnp.where(alive, weights * weights, 0), axis=0) / inputs
    return len(weights) * square


def mean_score(scores: Array, alive: Array) -> Array:
    """The mean score of a neuron's alive incoming weights. [in, out] -> [out]."""
    inputs = jnp.maximum(jnp.sum(alive, axis=0, dtype=jnp.int32), 1)
    return jnp.sum(jnp.where(alive, scores, 0), axis=0) / inputs


def prune_neurons(
    net: Params,
    mask: Mask,
    keep: Any,
    *,
    scope: Scope = "layer",
    of_neuron: OfNeuron = root_mean_square,
) -> Mask:
    """Keeps the neurons that score highest, as many as `keep` weights allow.

    S-Neuron of LT4REC, which names no score. Here a neuron scores the root mean
    square of its alive incoming weights times the root of its layer's fan-in:
    its size in units of a fan-in-scaled initialisation (LeCun, He: std ∝
    1/√fan-in). So one ranking serves layers of any width, however much of a layer's
    input is pruned already, as long as training has not made a layer's weights
    larger than another's: then a global ranking takes the other layer's neurons
    all but one, and nothing is learned through it.

    A removed neuron loses its incoming column and its outgoing row. Its bias is
    not touched: one removed from the last layer still sends relu(bias), a
    constant, to the heads, which are never pruned.

    Args:
      net: the trained net, of float leaves.
      mask: same structure; its bool leaves are kernels [in, out] which, in tree
        order, form a chain: each one's out is the next one's in.
      keep: int32 scalar, 0 <= keep <= alive: **weights** to keep, so that the
        density compares with that of `prune`. May be traced.
      scope: `layer`, all layers lose the same fraction of their neurons; `global`,
        one ranking of all neurons.
      of_neuron: (weights [in, out], alive [in, out]) -> [out], another score; a
        function of a module, or each call compiles anew.

    Returns:
      A subset of `mask`. The number of neurons kept is the largest that keeps at
      most `keep` weights, but each layer's best neuron always stays. A neuron
      without alive incoming weights stays dead. Of equal scores the last in tree
      order, then index order, fall first; NaN ranks highest.

    Raises:
      ValueError: as `prune`; or the kernels form no chain.
    """
    weights, marks = _prunable(net, mask)
    shapes = [m.shape for m in marks]
    if any(len(shape) != 2 for shape in shapes) or any(
        before[1] != after[0] for before, after in pairwise(shapes)
    ):
        raise ValueError(
            f"kernels of shapes {shapes} form no chain [in, out], [out, next out], …;"
            " pruning neurons needs one stack of layers: prune weights instead"
        )
    kept = _keep_neurons(weights, marks, _count(keep, marks), scope, of_neuron)
    return jax.tree.structure(mask).unflatten(kept)


def _prune(values: Any, mask: Mask, keep: Any, is_ranked: bool = False) -> Mask:
    """`prune` by magnitude or, if `is_ranked`, by the values themselves."""
    weights, marks = _prunable(values, mask)
    structure = jax.tree.structure(mask)
    if jax.tree_util.all_leaves([keep]):
        return structure.unflatten(
            _keep_largest(weights, marks, _count(keep, marks), is_ranked)
        )
    if jax.tree.structure(keep) != structure:
        raise ValueError(
            f"counts for each layer form the tree {jax.tree.structure(keep)}, the"
            f" mask {structure}; give one count for each layer, as split_keep does"
        )
    counts = jax.tree.leaves(keep)
    return structure.unflatten(
        _keep_largest([w], [m], _count(k, [m]), is_ranked)[0]
        for w, m, k in zip(weights, marks, counts, strict=True)
    )


@functools.partial(jax.jit, static_argnames="is_ranked")
def _keep_largest(
    values: list[Array], marks: list[Array], keep: Array, is_ranked: bool
) -> list[Array]:
    # A cast to a wider float keeps the order; all layers need one bit pattern.
    wide = jnp.result_type(jnp.float32, *values)
    values = [x.astype(wide) for x in values]
    if is_ranked:
        values = [selection.ranked(x) for x in values]
    return selection.mark_largest(values, marks, keep)


@functools.partial(jax.jit, static_argnames=("scope", "of_neuron"))
def _keep_neurons(
    weights: list[Array],
    marks: list[Array],
    keep: Array,
    scope: Scope,
    of_neuron: OfNeuron,
) -> list[Array]:
    columns = _neuron_ranks(weights, marks, scope, of_neuron)
    # The features that enter the first layer are no neurons and always stay.
    rows = [jnp.zeros(len(marks[0]), jnp.uint32), *columns[:-1]]

    def lost(last, ends):
        """The alive weights with an end at a neuron that ranks behind `last`."""
        return [
            m & (jnp.maximum(r[:, None], c[None]) > last)
            for m, r, c in zip(marks, *ends, strict=True)
        ]

    last, _ = selection.search(
        lambda last, ends: selection.count(lost(last, ends)),
        (rows, columns),
        selection.count(marks) - keep,
        sum(len(c) for c in columns).bit_length(),
    )
    gone = lost(last, (rows, columns))
    return [m & ~g for m, g in zip(marks, gone, strict=True)]


def _neuron_ranks(
    weights: list[Array], marks: list[Array], scope: Scope, of_neuron: OfNeuron
) -> list[Array]:
    """Each neuron's place in the ranking, from 1, as uint32 [out] a layer.

    A layer's best neuron has 0: nothing ranks before it. Dead ones come last.
    """
    scores, best, alive = [], [], []
    for w, m in zip(weights, marks, strict=True):
        w = w.astype(jnp.result_type(jnp.float32, w))
        has_inputs = jnp.any(m, axis=0)
        score = of_neuron(w, m)
        score = jnp.where(jnp.isnan(score), jnp.inf, score)
        score = jnp.where(has_inputs, score, -jnp.inf)
        place = jnp.argsort(jnp.argsort(-score, stable=True))
        scores.append(score if scope == "global" else -place / len(score))
        best.append(jnp.arange(len(score)) == jnp.argmax(score))
        alive.append(has_inputs)
    every = jnp.concatenate(scores)
    order = jnp.argsort(-every, stable=True)
    places = jnp.arange(1, len(every) + 1, dtype=jnp.uint32)
    ranks = jnp.zeros_like(places).at[order].set(places)
    ranks = jnp.where(jnp.concatenate(best), jnp.uint32(0), ranks)
    last = jnp.uint32(jnp.iinfo(jnp.uint32).max)
    ranks = jnp.where(jnp.concatenate(alive), ranks, last)
    return jnp.split(ranks, np.cumsum([len(s) for s in scores])[:-1])


def _prunable(net: Params, mask: Mask) -> tuple[list[Array], list[Array]]:
    """The weights that have a mask, and their masks, after checking all of them."""
    is_none = lambda x: x is None
    of_net = jax.tree_util.tree_leaves_with_path(net, is_leaf=is_none)
    of_mask = jax.tree_util.tree_leaves_with_path(mask, is_leaf=is_none)
    weights, marks = [], []
    for (path, w), (masked, m) in zip_longest(of_net, of_mask, fillvalue=((), None)):
        if path != masked:
            raise ValueError(
                f"the net has a leaf at {path_name(path) or 'no further path'}, the"
                f" mask at {path_name(masked) or 'none'}; both need one structure,"
                " None in the mask where nothing is pruned"
            )
        if m is None:
            continue
        if w is None:
            raise ValueError(
                f"at {path_name(path)} there is a mask and no score; score every"
                " weight that has a mask"
            )
        if m.shape != w.shape or m.dtype != bool:
            raise ValueError(
                f"at {path_name(path)} the mask is {m.dtype}{list(m.shape)}, the net"
                f" {w.dtype}{list(w.shape)}; a mask is bool and shaped like its weights"
            )
        if not jnp.issubdtype(w.dtype, jnp.floating):
            raise ValueError(
                f"at {path_name(path)} the net is {w.dtype}; only floats are ranked:"
                " put None there in the mask"
            )
        weights.append(w)
        marks.append(m)
    if not marks:
        raise ValueError("the mask is None everywhere: there is nothing to prune")
    return weights, marks


def _count(keep: Any, marks: list[Array]) -> Array:
    """`keep` as an int32 scalar, checked against the survivors if it is known."""
    if jnp.shape(keep) or not jnp.issubdtype(jnp.result_type(keep), jnp.integer):
        raise ValueError(
            f"keep is {keep!r}; give the number of weights to keep as one integer,"
            " such as keep_counts returns"
        )
    if not any(isinstance(x, jax.core.Tracer) for x in (keep, *marks)):
        _check_range(int(keep), int(_alive(marks)))
    return jnp.asarray(keep, jnp.int32)


def _check_range(keep: int, alive: int) -> None:
    if not 0 <= keep <= alive:
        raise ValueError(
            f"cannot keep {keep} of {alive} weights still alive; give a count between"
            f" 0 and {alive} (masks never grow back)"
        )


_alive = jax.jit(selection.count)
