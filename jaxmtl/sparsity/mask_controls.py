"""Masks that keep some of what the tickets are and lose the rest.

What a sparse net owes to its ticket is the difference to a mask that is like the
ticket in everything else. Each kind below holds some of three things fixed and draws
the rest anew: how many weights each layer keeps, how far the tasks' masks overlap, and
which weights they are (after the sanity checks of Frankle et al., "Pruning Neural
Networks at Initialization: Why Are We Missing the Mark?", 2021, and of Su et al.,
"Sanity-Checking Pruning Methods", 2020). Between tasks, only what the net shares is
exchanged or drawn together: a task's own tower never is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.keys import named
from jaxmtl.sparsity import selection
from jaxmtl.types import Key, Mask

Kind = Literal[
    "ticket",
    "reinitialised",
    "random",
    "random_global",
    "random_common",
    "shuffled",
    "swapped",
    "ctr",
]


def make(
    kind: Kind,
    key: Key,
    tickets: Mapping[str, Mask],
    ctr: str,
    read: Mapping[str, Mask] | None = None,
) -> dict[str, Mask]:
    """Each task's mask, made from the tickets.

    Args:
      kind: of mask.
        `ticket`, as found; `reinitialised` too, for weights it was not found in.
        `random`: a draw for each task, as dense as its ticket in every layer.
        `random_global`: as dense in the net as a whole.
        `random_common`: as dense in every layer, but from one ranking for all tasks:
        the sparser mask lies inside the denser one.
        `shuffled`: each layer permuted, alike for all tasks: their overlap stays.
        `swapped`: the ticket of the next task, in a circle.
        `ctr`: the CTR's ticket for every task.
      key: of the draws.
      tickets: task -> its mask, with the parts `shared` and `tasks`.
      ctr: the task whose ticket kind `ctr` hands out.
      read: task -> the weights that it reads, among which its ticket was found; by
        default all. The positions of a DCRNN outside its window are not.

    Raises:
      ValueError: the kind is unknown, or an exchange lacks a task to exchange with,
        or the tasks read different weights.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"masks {kind!r} are none of {list(get_args(Kind))}")
    if kind in ("swapped", "ctr") and (len(tickets) < 2 or ctr not in tickets):
        raise ValueError(
            f"masks {kind!r} exchange tickets between tasks; there are those of"
            f" {list(tickets)}: train {ctr!r} and another, or use kind 'ticket'"
        )
    read = read or {t: jax.tree.map(jnp.ones_like, m) for t, m in tickets.items()}
    if kind in ("swapped", "ctr") and not _are_equal(
        [m["shared"] for m in read.values()]
    ):
        raise ValueError(
            f"masks {kind!r} exchange tickets between tasks, and {list(tickets)} read"
            " different parts of the net: another's ticket would cut a task off from"
            " its own; use a net that all tasks read, such as shared_trunk"
        )
    own = {task: named(key, task) for task in tickets}
    if kind == "random":
        return {task: random_like(own[task], mask) for task, mask in tickets.items()}
    if kind == "random_global":
        return {t: random_overall(own[t], m, read[t]) for t, m in tickets.items()}
    if kind in ("random_common", "shuffled"):
        draw = random_like if kind == "random_common" else shuffled
        return {
            task: {
                "shared": draw(key, m["shared"]),
                "tasks": draw(own[task], m["tasks"]),
            }
            for task, m in tickets.items()
        }
    names = list(tickets)
    giver = {task: task for task in names}
    if kind == "swapped":
        giver = dict(zip(names, names[1:] + names[:1], strict=True))
    elif kind == "ctr":
        giver = dict.fromkeys(names, ctr)
    return {
        task: {**mask, "shared": tickets[giver[task]]["shared"]}
        for task, mask in tickets.items()
    }


@jax.jit
def random_like(key: Key, mask: Mask) -> Mask:
    """A random mask with as many survivors in each layer as `mask` has.

    They are drawn from all positions of a layer, pruned ones too. Under one key, of
    two masks the sparser one's draw lies inside the denser one's, layer by layer.
    """
    leaves, structure = jax.tree.flatten(mask)
    drawn = []
    for leaf, leaf_key in zip(leaves, _keys(key, leaves), strict=True):
        drawn += _draw([leaf_key], [leaf], [jnp.ones_like(leaf)])
    return structure.unflatten(drawn)


@jax.jit
def random_overall(key: Key, mask: Mask, read: Mask) -> Mask:
    """A random mask with as many survivors in all layers together as `mask` has.

    They are drawn from the positions that `read` marks.
    """
    leaves, structure = jax.tree.flatten(mask)
    drawn = _draw(_keys(key, leaves), leaves, jax.tree.leaves(read))
    return structure.unflatten(drawn)


@jax.jit
def shuffled(key: Key, mask: Mask) -> Mask:
    """Every layer's entries in a random order: the same weights, elsewhere.

    The order depends on the key and the shapes alone. So masks of one net that are
    shuffled under one key meet in as many places of each layer as before.
    """
    leaves, structure = jax.tree.flatten(mask)
    return structure.unflatten(
        jax.random.permutation(leaf_key, leaf.reshape(-1)).reshape(leaf.shape)
        for leaf, leaf_key in zip(leaves, _keys(key, leaves), strict=True)
    )


def _keys(key: Key, leaves: list) -> list[Key]:
    return list(jax.random.split(key, len(leaves))) if leaves else []


def _are_equal(masks: Sequence[Mask]) -> bool:
    first, *others = ([np.asarray(x) for x in jax.tree.leaves(m)] for m in masks)
    return all(all(map(np.array_equal, first, other)) for other in others)


def _draw(keys: list[Key], leaves: list, within: list) -> list:
    """As many random marks as the leaves hold together, among those of `within`."""
    lots = [
        jax.random.bits(key, leaf.shape, jnp.uint32)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return selection.mark_largest(lots, within, selection.count(leaves))
