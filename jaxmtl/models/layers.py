"""What several models share: feature crossing, an MLP, the step into a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import flax.linen as nn
import jax.numpy as jnp

from jaxmtl.types import Array

Cross = Literal["elementwise", "inner", "none"]


def crossed(vectors: Array, cross: Cross) -> Array:
    """The flattened field embeddings with their crosses behind (LT4REC, Fig. 1).

    Args:
      vectors: float32 [batch, fields, dim].
      cross: `elementwise`, the products of every two fields' vectors, element by
        element (the paper's text, fields·(fields − 1)/2·dim values); `inner`,
        the matrix of inner products (the authors' code, fields² values);
        `none`, the embeddings alone.

    Returns:
      float32 [batch, width].

    Raises:
      ValueError: `cross` is none of these.
    """
    if cross not in get_args(Cross):
        raise ValueError(f"cross {cross!r} is none of {list(get_args(Cross))}")
    batch, fields, _ = vectors.shape
    flat = vectors.reshape(batch, -1)
    if cross == "elementwise":
        pairs = [vectors[:, i : i + 1] * vectors[:, i + 1 :] for i in range(fields - 1)]
        products = jnp.concatenate(pairs, axis=1).reshape(batch, -1)
        return jnp.concatenate([flat, products], axis=1)
    if cross == "inner":
        products = jnp.einsum("bfd,bgd->bfg", vectors, vectors).reshape(batch, -1)
        return jnp.concatenate([flat, products], axis=1)
    return flat


class MLP(nn.Module):
    """Fully connected layers with ReLU; `extra` joins the first before it.

    Layers are called layer00, layer01, …: their order in the tree is that of
    the computation, which pruning whole neurons relies on.
    """

    hidden: Sequence[int]

    @nn.compact
    def __call__(self, x: Array, extra: Array | float = 0.0) -> Array:
        for i, width in enumerate(self.hidden):
            x = nn.Dense(width, name=f"layer{i:02d}")(x)
            x = nn.relu(x + extra if i == 0 else x)
        return x
