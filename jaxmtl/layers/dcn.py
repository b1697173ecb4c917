"""DCN's cross layers: x_0 times a number that each layer learns to read.

Wang et al., "Deep & Cross Network for Ad Click Predictions", ADKDD 2017, eq. 3;
eq. 1 of the DCRNN paper: x_{l+1} = x_0 (x_l^T w_l) + b_l + x_l. Here as a layer in
front of any net; the paper's own model runs an MLP beside it.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.nn import initializers

from jaxmtl.keys import named
from jaxmtl.layers.mlp import FeatureLayer
from jaxmtl.types import Array, Features, Key


def dcn(depth: int) -> FeatureLayer:
    """The layer; its output is as wide as x_0, fields · dim + numerics.

    x_0 is the flattened embeddings with the numeric features at their end. The
    parameters are {"dcn": {"layer00": {"weight", "bias"}, …}}, each [width]: they
    are no kernels and never pruned.

    Args:
      depth: cross layers, at least 1.

    Raises:
      ValueError: there is no layer.
    """
    if depth < 1:
        raise ValueError(f"crossing by dcn of depth {depth}; at least 1 is needed")
    layers = [f"layer{i:02d}" for i in range(depth)]
    draw = initializers.lecun_normal()

    def init(key: Key, features: Features) -> dict:
        width = _first_input(features).shape[1]
        parts = {
            name: {
                "weight": draw(named(key, name), (width, 1))[:, 0],
                "bias": jnp.zeros(width),
            }
            for name in layers
        }
        return {"dcn": parts}

    def apply(shared: dict, features: Features) -> Array:
        x0 = x = _first_input(features)
        for name in layers:
            part = shared["dcn"][name]
            x = x0 * (x @ part["weight"])[:, None] + part["bias"] + x
        return x

    return FeatureLayer(init, apply)


def _first_input(features: Features) -> Array:
    """x_0: the flattened embeddings, then the numeric features, [batch, width]."""
    flat = features.shared.reshape(len(features.shared), -1)
    return jnp.concatenate([flat, features.numeric], axis=1)
