"""CIN: products of whole field vectors, compressed into a few maps a layer.

Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions for
Recommender Systems", KDD 2018; eq. 2 of the DCRNN paper. Map h of layer k is
X^k_h = sum_ij W^{k,h}_ij (X^{k-1}_i ∘ X^0_j) (eq. 6), where X^0 holds the fields'
embeddings; every map is summed over its dimensions (eq. 7), and the sums of all
layers stand beside each other (eq. 8). No activation, as the paper's eq. 6.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.nn import initializers

from jaxmtl.keys import named
from jaxmtl.layers.mlp import FeatureLayer
from jaxmtl.types import Array, Features, Key


def cin(depth: int, maps: int) -> FeatureLayer:
    """The layer; its output is [embeddings, depth · maps sums, numeric features].

    The parameters are {"cin": {"layer00": {"weight": W}, …}} with W of shape
    [maps before, fields, maps]: they are no kernels and never pruned.

    Args:
      depth: layers, at least 1.
      maps: feature maps of each layer (H_k), at least 1; the paper uses 100 to 200.

    Raises:
      ValueError: there is no layer, or a layer has no map.
    """
    if depth < 1 or maps < 1:
        raise ValueError(
            f"crossing by cin of depth {depth} and {maps} maps; at least 1 of each is"
            " needed"
        )
    layers = [f"layer{i:02d}" for i in range(depth)]
    draw = initializers.lecun_normal(in_axis=(0, 1))

    def init(key: Key, features: Features) -> dict:
        fields, parts = features.shared.shape[1], {}
        for name, before in zip(layers, [fields] + [maps] * (depth - 1), strict=True):
            weight = draw(named(key, name), (before, fields, maps))
            parts[name] = {"weight": weight}
        return {"cin": parts}

    def apply(shared: dict, features: Features) -> Array:
        # Fields last and one einsum: it becomes two matrix products, the largest
        # array between them [batch, dim, fields, maps before]. On a CPU that takes
        # half the time and memory of multiplying the fields by broadcasting.
        x0 = x = features.shared.swapaxes(1, 2)
        pooled = []
        for name in layers:
            weight = shared["cin"][name]["weight"]
            x = jnp.einsum("bdi,bdj,ijh->bdh", x, x0, weight)
            pooled.append(x.sum(axis=1))
        flat = features.shared.reshape(len(features.shared), -1)
        return jnp.concatenate([flat, *pooled, features.numeric], axis=1)

    return FeatureLayer(init, apply)
