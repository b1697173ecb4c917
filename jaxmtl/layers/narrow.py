"""A product with a matrix of few columns, such as a gate's."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmtl.types import Array


@jax.custom_vjp
def narrow_product(x: Array, weight: Array) -> Array:
    """`x @ weight`, for x [batch, in] and a weight [in, out] whose out is small.

    The weight's gradient is taken as the transpose of [out, in]. As [in, out] it would
    be a product of the transposed x, which XLA's CPU copies first: 5 times as slow for
    8 columns, a twentieth of MMoE's step at the DCRNN paper's shape. Knows no forward
    mode (`jax.jvp`).
    """
    return x @ weight


def _gradient(given: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    (x, weight), exact = given, jax.lax.Precision.HIGHEST
    to_x = jnp.matmul(gradient, weight.T, precision=exact)
    to_weight = jnp.matmul(gradient.T, x, precision=exact)
    # XLA would turn the transpose of a product back into the product of transposes.
    return to_x, jax.lax.optimization_barrier(to_weight).T


narrow_product.defvjp(lambda x, weight: (x @ weight, (x, weight)), _gradient)
