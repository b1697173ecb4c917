"""How field embeddings are crossed before a net sees them: one choice for any model.

`elementwise` and `inner` are LT4REC's (Chen et al., 2022, Figure 1), `dcn` and
`cin` the cross networks that DCRNN argues from, `crnn` DCRNN's own.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax.numpy as jnp

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
