"""How field embeddings are crossed before a net sees them: one choice for any model.

`elementwise` and `inner` are LT4REC's (Chen et al., 2022, Figure 1), `dcn` and
`cin` the cross networks that DCRNN argues from, `crnn` DCRNN's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.layers.cin import cin
from jaxmtl.layers.crnn import crnn_layer
from jaxmtl.layers.dcn import dcn
from jaxmtl.layers.mlp import FeatureLayer
from jaxmtl.types import Array, Features

PLAIN = ("elementwise", "inner", "none")


@dataclasses.dataclass(frozen=True)
class Crossing:
    """The layer between the embeddings and the net.

    Attributes:
      kind: `elementwise`, the products of every two fields' vectors (LT4REC's
        text); `inner`, the matrix of inner products (its authors' code); `none`,
        the embeddings alone; `dcn`, DCN's cross layers; `cin`, xDeepFM's compressed
        interaction network; `crnn`, a recurrent net fed the same input at every
        step.
      depth: layers of `dcn` and `cin`, steps of `crnn`.
      maps: feature maps of each layer of `cin`.
      hidden: width of `crnn`.
    """

    kind: Literal["elementwise", "inner", "none", "dcn", "cin", "crnn"] = "elementwise"
    depth: int = 3
    maps: int = 16
    hidden: int = 64


def feature_layer(crossing: Crossing) -> FeatureLayer:
    """The layer that a crossing describes; numeric features stand at its end.

    Raises:
      ValueError: its kind is unknown.
    """
    if crossing.kind == "dcn":
        return dcn(crossing.depth)
    if crossing.kind == "cin":
        return cin(crossing.depth, crossing.maps)
    if crossing.kind == "crnn":
        return crnn_layer(crossing.depth, crossing.hidden)
    if crossing.kind not in PLAIN:
        raise ValueError(
            f"crossing {crossing.kind!r} is none of {[*PLAIN, 'dcn', 'cin', 'crnn']}"
        )

    def apply(shared: dict, features: Features) -> Array:
        del shared  # nothing is learned here
        vector = crossed(features.shared, crossing.kind)
        return jnp.concatenate([vector, features.numeric], axis=1)

    return FeatureLayer(lambda key, features: {}, apply)


def crossed(vectors: Array, cross: str) -> Array:
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
    if cross not in PLAIN:
        raise ValueError(f"cross {cross!r} is none of {list(PLAIN)}")
    flat = vectors.reshape(len(vectors), -1)
    if cross == "none":
        return flat
    cross_products = products if cross == "elementwise" else inner_products
    crosses = cross_products(vectors).reshape(len(vectors), -1)
    return jnp.concatenate([flat, crosses], axis=1)


# Of each field's vector the gradient is a sum over its partners. Left to itself,
# backward is a padded sum over all pairs for each field, or a product of transposed
# matrices for each row of the batch: 2 to 20 times as slow on a CPU. Such a gradient
# knows no forward mode (`jax.jvp`).


@jax.custom_vjp
def products(vectors: Array) -> Array:
    """The products of every two fields' vectors, element by element.

    Args:
      vectors: [batch, fields, dim].

    Returns:
      [batch, fields·(fields − 1)/2, dim]: of the fields 0 and 1, 0 and 2, … 1 and 2, …
    """
    first, second = np.triu_indices(vectors.shape[1], 1)
    return vectors[:, first] * vectors[:, second]


def _products_gradient(vectors: Array, gradient: Array) -> tuple[Array]:
    fields = vectors.shape[1]
    first, second = np.triu_indices(fields, 1)
    if not len(first):
        return (jnp.zeros_like(vectors),)
    pairs = np.full((fields, fields), len(first))  # none of a field with itself
    pairs[first, second] = pairs[second, first] = np.arange(len(first))

    def with_partner(field: int) -> Array:
        return gradient.at[:, pairs[field]].get(mode="fill", fill_value=0)

    return (_over_partners(with_partner, vectors),)


@jax.custom_vjp
def inner_products(vectors: Array) -> Array:
    """The inner products of every two fields' vectors.

    Args:
      vectors: [batch, fields, dim].

    Returns:
      [batch, fields, fields], symmetric.
    """
    return jnp.einsum("bfd,bgd->bfg", vectors, vectors)


def _inner_products_gradient(vectors: Array, gradient: Array) -> tuple[Array]:
    def with_partner(field: int) -> Array:
        return (gradient[:, :, field] + gradient[:, field])[:, :, None]

    return (_over_partners(with_partner, vectors),)


def _over_partners(with_partner: Callable[[int], Array], vectors: Array) -> Array:
    """The sum over fields of the partner's vector times what fits all others' to it."""
    fields = range(vectors.shape[1])
    return sum(with_partner(i) * vectors[:, i : i + 1] for i in fields)


products.defvjp(lambda vectors: (products(vectors), vectors), _products_gradient)
inner_products.defvjp(
    lambda vectors: (inner_products(vectors), vectors), _inner_products_gradient
)
