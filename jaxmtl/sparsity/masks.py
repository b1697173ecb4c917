"""Masks: which weights of the net a task sees, and which its step moves.

A mask is a tree over the net with a bool array at every kernel that can be pruned and
`None` elsewhere: it covers what is shared and the task's own tower. It is always an
argument, never part of a model or of an optimiser's state, so two tasks' masks run
through one compiled program. What a task sees (its mask) and what its step may change
(its gates) differ: biases, heads and a task's own branches are never pruned, and still
must not drift on another task's momentum.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.types import Array, Mask, Params


def _is_none(leaf) -> bool:
    return leaf is None


def _is_prunable(path) -> bool:
    """Whether a leaf is a weight that a ticket may leave out.

    Biases, heads and embeddings never are (LT4REC, Figure 3), nor are the gates of
    a mixture, which weigh whole experts, and a task's branch, which only it sees.
    """
    names = [part.key for part in path]
    return names[-1] == "kernel" and {"head", "gate", "branch"}.isdisjoint(names)


def full(net: Params, task: str | None = None) -> Mask:
    """The dense mask: True at every kernel of the net that may be pruned.

    Args:
      net: of one task or several.
      task: whose mask it is; None, on the own parts of the other tasks too, where
        the net is of one task alone.
    """

    def leaf(path, value):
        is_other = path[0].key == "tasks" and path[1].key != (task or path[1].key)
        if is_other or not _is_prunable(path):
            return None
        return jnp.ones(value.shape, bool)

    return jax.tree_util.tree_map_with_path(leaf, net)


def apply(net: Params, mask: Mask | None) -> Params:
    """`net ⊙ mask`; leaves without a mask pass unchanged, as does all for None."""
    if mask is None:
        return net
    return jax.tree.map(
        lambda m, w: w if m is None else jnp.where(m, w, 0), mask, net, is_leaf=_is_none
    )


def gates(net: Params, masks: Mapping[str, Mask | None]) -> Params:
    """What a step that trains the tasks in `masks` may move.

    Args:
      net: the shared net.
      masks: task -> its mask, or None where the task sees the whole net. A step
        for one task names one; a step on the sum of losses names all of them.

    Returns:
      A tree over `net` of bools that broadcast to its leaves: the union of the
      masks at prunable kernels, True at leaves that are never pruned, and False in
      the own parts of the tasks that are not named.
    """
    is_dense = any(mask is None for mask in masks.values())
    seen = full(net) if is_dense else union(masks.values())

    def gate(path, leaf, value):
        is_other = path[0].key == "tasks" and path[1].key not in masks
        if is_dense or not _is_prunable(path):
            return jnp.asarray(not is_other)
        return jnp.zeros(value.shape, bool) if is_other else leaf

    return jax.tree_util.tree_map_with_path(gate, seen, net, is_leaf=_is_none)


def join(dense: Mask, found: Mask, task: str) -> Mask:
    """A mask found in a net of one task, for the net of all of them.

    Args:
      dense: the task's dense mask there.
      found: the mask; the net of its search has no view of another task's own.
      task: whose masks they are.
    """
    own = dense["tasks"] | {task: found["tasks"][task]}
    return {"shared": found["shared"], "tasks": own}


def union(masks: Iterable[Mask]) -> Mask:
    """What any of the masks keeps; None where none of them prunes."""

    def either(*leaves):
        known = [leaf for leaf in leaves if leaf is not None]
        return functools.reduce(jnp.logical_or, known) if known else None

    return jax.tree.map(either, *masks, is_leaf=_is_none)


def count(mask: Mask) -> int:
    """How many prunable weights the mask keeps."""
    return sum(int(np.sum(leaf)) for leaf in jax.tree.leaves(mask))


def density(mask: Mask | None) -> float:
    """The fraction of prunable weights kept, in [0, 1]; 1 without a mask."""
    if mask is None:
        return 1.0
    size = sum(leaf.size for leaf in jax.tree.leaves(mask))
    return count(mask) / size if size else 1.0


def by_path(mask: Mask) -> dict[str, np.ndarray]:
    """Path of each prunable kernel -> its bool array, on the host."""
    leaves = jax.tree_util.tree_leaves_with_path(mask)
    return {path_name(path): np.asarray(leaf) for path, leaf in leaves}


def path_name(path) -> str:
    """`shared/layer00/kernel` for the key path of a leaf."""
    return "/".join(str(getattr(part, "key", part)) for part in path)


def pack(mask: Mask) -> dict[str, np.ndarray]:
    """Path -> the leaf's bits, eight a byte, for a file."""
    return {path: np.packbits(leaf) for path, leaf in by_path(mask).items()}


def unpack(packed: Mapping[str, np.ndarray], like: Mask) -> Mask:
    """The mask whose `pack` is `packed`.

    Args:
      packed: path -> uint8 array.
      like: a mask of the same structure and shapes, such as `full(net)`.

    Raises:
      ValueError: paths or sizes do not fit `like`; names the path.
    """
    paths = {path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(like)}
    if paths != set(packed):
        raise ValueError(
            f"packed mask holds {sorted(packed)}, the net prunes {sorted(paths)};"
            " it belongs to another architecture"
        )

    def leaf(path, value: Array):
        bits = packed[path_name(path)]
        if bits.dtype != np.uint8 or bits.shape != (-(-value.size // 8),):
            raise ValueError(
                f"packed mask at {path_name(path)} has {bits.shape} of {bits.dtype},"
                f" {value.shape} needs {-(-value.size // 8)} bytes"
            )
        flat = np.unpackbits(bits, count=value.size).astype(bool)
        return jnp.asarray(flat.reshape(value.shape))

    return jax.tree_util.tree_map_with_path(leaf, like)
