"""What tasks share under their masks, and how that compares with chance.

Sparse sharing (LT4REC, Figure 3; Sun et al., "Learning Sparse Sharing Architectures
for Multiple Tasks", 2020) shares the weights that several tasks' tickets keep. How
many these are says little alone: two masks that keep a fifth of a layer each meet in
a ninth of their union by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.sparsity.masks import by_path
from jaxmtl.types import Mask


class Parts(NamedTuple):
    """How a layer's weights are used; the fractions sum to 1.

    Attributes:
      shared: kept by two tasks or more.
      private: task -> kept by it alone.
      dead: kept by none.
    """

    shared: float
    private: dict[str, float]
    dead: float


class Overlap(NamedTuple):
    """Intersection over union of two masks, as it is and by chance.

    Attributes:
      iou: in [0, 1]; 1 where both keep nothing.
      chance: the expected intersection over the expected union of two random masks
        that keep as many weights of each layer. It is the expected ratio but for
        terms of one over the number of weights.
    """

    iou: float
    chance: float


def layer_parts(task_masks: Mapping[str, Mask]) -> dict[str, Parts]:
    """Path of each layer that all tasks prune -> how its weights are used.

    Args:
      task_masks: task -> mask, over one net. Towers of a single task are left out.

    Raises:
      ValueError: there are no masks, or they are of different nets.
    """
    if not task_masks:
        raise ValueError("there are no masks to compare; give one a task")
    layers = {task: by_path(mask) for task, mask in task_masks.items()}
    common = set.intersection(*(set(found) for found in layers.values()))
    result = {}
    for path in next(iter(layers.values())):
        if path not in common:
            continue
        kept = {task: found[path] for task, found in layers.items()}
        shapes = {task: mask.shape for task, mask in kept.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(
                f"at {path} the masks have shapes {shapes}; give masks of one net"
            )
        times = sum(mask.astype(np.int32) for mask in kept.values())
        alone = times == 1
        result[path] = Parts(
            shared=float(np.mean(times > 1)),
            private={t: float(np.mean(alone & mask)) for t, mask in kept.items()},
            dead=float(np.mean(times == 0)),
        )
    return result


def layer_overlaps(a: Mask, b: Mask) -> dict[str, Overlap]:
    """Path -> overlap, for the layers that both masks hold in one shape.

    The masks may be of different nets: those of two logs differ in their first
    layer, whose inputs are the log's, and can be compared behind it.
    """
    return {path: _overlap([pair]) for path, pair in _pairs(a, b).items()}


def overlap(a: Mask, b: Mask) -> Overlap:
    """The overlap over all layers that both masks hold in one shape together.

    Raises:
      ValueError: there is no such layer.
    """
    pairs = _pairs(a, b)
    if not pairs:
        raise ValueError(
            f"the masks have no layer of one shape in common: {list(by_path(a))} and"
            f" {list(by_path(b))}"
        )
    return _overlap(pairs.values())


def regions(task_masks: Mapping[str, Mask]) -> dict[str, Mask]:
    """`overlap`: what two tasks or more keep; `outside`: the rest of those layers.

    Returns:
      Two trees like the masks; None wherever one of the tasks prunes nothing.
    """

    def count(*leaves):
        if any(leaf is None for leaf in leaves):
            return None
        return sum(jnp.asarray(leaf, jnp.int32) for leaf in leaves)

    is_none = lambda leaf: leaf is None
    times = jax.tree.map(count, *task_masks.values(), is_leaf=is_none)
    return {
        "overlap": jax.tree.map(lambda n: n > 1, times),
        "outside": jax.tree.map(lambda n: n <= 1, times),
    }


def input_density(
    kernel: np.ndarray, fields: Sequence[str], dim: int, numerics: int
) -> dict[str, float]:
    """The fraction of a first layer's weights kept, by the input they start from.

    Args:
      kernel: bool [inputs, outputs], the first layer's mask. Its inputs are the
        fields' embeddings, their crosses, the numeric features (`crossing.crossed`).
      fields: names, in the schema's order.
      dim: width of an embedding.
      numerics: number of numeric features.

    Returns:
      A fraction for each field's embedding; for `crosses` and `numeric` where the
      layer has such inputs.

    Raises:
      ValueError: the layer has fewer inputs than that.
    """
    by_input = np.asarray(kernel, np.float64).mean(axis=1)
    embedded = len(fields) * dim
    crosses = len(by_input) - embedded - numerics
    if crosses < 0:
        raise ValueError(
            f"a first layer of {len(by_input)} inputs cannot hold {len(fields)} fields"
            f" of width {dim} and {numerics} numeric features; give the layer behind"
            " the embeddings"
        )
    by_field = by_input[:embedded].reshape(len(fields), dim).mean(axis=1)
    found = dict(zip(fields, by_field.tolist(), strict=True))
    if crosses:
        found["crosses"] = float(by_input[embedded : embedded + crosses].mean())
    if numerics:
        found["numeric"] = float(by_input[-numerics:].mean())
    return found


def _pairs(a: Mask, b: Mask) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    ours, theirs = by_path(a), by_path(b)
    return {
        path: (mask, theirs[path])
        for path, mask in ours.items()
        if path in theirs and theirs[path].shape == mask.shape
    }


def _overlap(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Overlap:
    both = kept = expected = 0.0
    for a, b in pairs:
        n, m = int(a.sum()), int(b.sum())
        both += int((a & b).sum())
        kept += n + m
        expected += n * m / a.size
    if not kept:
        return Overlap(1.0, 1.0)
    return Overlap(both / (kept - both), expected / (kept - expected))
