"""Experts side by side and the gates that mix them, for MMoE, OMoE and PLE.

Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts", KDD 2018, eq. 5 to 8: an expert is an MLP, a gate a softmax
over a linear map of the input, and a mixture the experts' outputs weighted by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxmtl.layers.narrow import narrow_product
from jaxmtl.types import Array


class Experts(nn.Module):
    """`count` MLPs with ReLU over one input: [batch, in] -> [count, batch, out].

    An expert's kernels are `kernel[expert]` of each layer's [count, in, out].

    The axes' order is what is fast on a CPU: what all experts read enters one wide
    product, and the last layer leaves its experts in front, as its batched product
    makes them. The gates' weighted sums then need no transposed copy, which saves
    a fifth or more of MMoE's step at the DCRNN paper's shape.
    """

    count: int
    hidden: Sequence[int]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, width in enumerate(self.hidden):
            given = "bi" if i == 0 else "bei"
            made = "ebo" if i == len(self.hidden) - 1 else "beo"
            layer = nn.Einsum(
                (self.count, x.shape[-1], width),
                f"{given},eio->{made}",
                kernel_init=nn.initializers.lecun_normal(batch_axis=0),
                name=f"layer{i:02d}",
            )
            x = nn.relu(layer(x))
        return x


class Gate(nn.Module):
    """A mixture of experts, weighted by softmax(W x).

    Takes x [batch, in] and the experts' outputs [experts, batch, out]; returns
    [batch, out]. W is not called kernel: like heads, gates are never pruned.
    """

    @nn.compact
    def __call__(self, x: Array, outputs: Array) -> Array:
        shape = (x.shape[-1], len(outputs))
        weight = self.param("weight", nn.initializers.lecun_normal(), shape)
        shares = nn.softmax(narrow_product(x, weight))
        return jnp.einsum("ebo,be->bo", outputs, shares)


def check_experts(count: int, hidden: Sequence[int]) -> None:
    """Raises ValueError where there is no expert, or an expert has no layer."""
    if count < 1:
        raise ValueError(f"{count} experts; at least 1 is needed")
    if not hidden:
        raise ValueError("expert-hidden is empty; give each expert a layer or more")
