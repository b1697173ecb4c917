"""A subnetwork made small: without the neurons and inputs that its mask left dead.

A neuron is dead where no alive weight enters it, or none leaves it. One of the first
kind is not zero: it sends relu(bias), a constant, which is folded into the biases of
the layer after it. One of the second kind is computed for nobody. What stays is a net
of smaller dense matrices with the same outputs: exactly, as mathematics; to rounding
in floats, since sums with fewer terms are added in another order.

LT4REC's subnetworks (Chen et al., 2022) are chains of layers, and so are those made
small here: the trunk of `shared_trunk`, as one task sees it, with that task's head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxmtl.types import Array, Features, Params


class Layer(NamedTuple):
    """A fully connected layer: kernel [in, out] and bias [out]."""

    kernel: Array
    bias: Array


class Chain(NamedTuple):
    """Layers with ReLU between them, over some entries of an input vector.

    Attributes:
      inputs: int32 [kept], the entries that the first layer reads, in order.
      layers: the last is the head, without ReLU.
    """

    inputs: Array
    layers: tuple[Layer, ...]


def layers_of(net: Params, task: str) -> tuple[Layer, ...]:
    """The layers of a `shared_trunk` that turn a task's input vector into its logit.

    A task's own view enters the first layer through a kernel of its own: its part of
    the vector, and its rows, stand behind the shared ones.

    Args:
      net: as the task sees it, pruned weights zero.
      task: whose.
    """
    shared, own = net["shared"], net["tasks"][task]
    trunk = [shared[name] for name in sorted(shared) if name.startswith("layer")]
    layers = [
        Layer(np.asarray(part["kernel"]), np.asarray(part["bias"]))
        for part in (*trunk, own["head"])
    ]
    if "branch" in own:
        kernel, bias = layers[0]
        branch = np.asarray(own["branch"]["kernel"])
        layers[0] = Layer(np.concatenate([kernel, branch]), bias)
    return tuple(layers)


def compact(layers: Sequence[Layer]) -> Chain:
    """The smallest dense chain with the same outputs for finite inputs.

    Args:
      layers: NumPy, pruned weights zero; each one's out is the next one's in.

    Raises:
      ValueError: there is no layer, or shapes do not follow each other.
    """
    _check(layers)
    return _without_unread(_without_constants(layers))


def _without_constants(layers: Sequence[Layer]) -> list[Layer]:
    """Neurons that nothing enters, folded forward into the next layer's bias."""
    found, (kernel, bias) = [], layers[0]
    for following in layers[1:]:
        varies = kernel.any(axis=0)
        found.append(Layer(kernel[:, varies], bias[varies]))
        constant = np.maximum(bias[~varies], 0)
        kernel = following.kernel[varies]
        bias = following.bias + constant @ following.kernel[~varies]
    return [*found, Layer(kernel, bias)]


def _without_unread(layers: Sequence[Layer]) -> Chain:
    """Neurons that nothing leaves, and inputs that nothing reads, left out."""
    found, read = [], np.ones(len(layers[-1].bias), bool)
    for layer in reversed(layers):
        kernel = layer.kernel[:, read]
        bias, read = layer.bias[read], kernel.any(axis=1)
        found.append(Layer(kernel[read], bias))
    return Chain(np.flatnonzero(read).astype(np.int32), tuple(reversed(found)))


def apply(chain: Chain, vector: Array) -> Array:
    """The logits of a chain.

    Args:
      chain: to apply.
      vector: float32 [batch, width], `width` as before the chain was made small.

    Returns:
      float32 [batch].
    """
    # As many entries as there are can only be all of them: no copy is made.
    is_whole = len(chain.inputs) == vector.shape[1]
    x = vector if is_whole else vector[:, chain.inputs]
    for layer in chain.layers[:-1]:
        x = jax.nn.relu(x @ layer.kernel + layer.bias)
    head = chain.layers[-1]
    return (x @ head.kernel + head.bias)[:, 0]


def multiply_adds(chain: Chain) -> int:
    """Of one row, through all kernels as they are stored."""
    return sum(layer.kernel.size for layer in chain.layers)


def dependence(vector: Callable[[Features], Array], like: Features) -> np.ndarray:
    """Which entries of a net's input vector depend on which field.

    Each field is drawn anew in a row of its own, and what changes depends on it.

    Args:
      vector: what turns features into the input vector, [batch, width].
      like: of its shapes, any values; a task's own views are left out.

    Returns:
      bool [fields, width].
    """
    _, fields, dim = like.shared.shape
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    shared = np.repeat(draw(1, fields, dim), fields + 1, axis=0)
    shared[1 + np.arange(fields), np.arange(fields)] = draw(fields, dim)
    numeric = np.repeat(draw(1, like.numeric.shape[1]), fields + 1, axis=0)
    seen = np.asarray(vector(Features(shared, {}, numeric)))
    return seen[1:] != seen[0]


def _check(layers: Sequence[Layer]) -> None:
    if not layers:
        raise ValueError("a chain without layers; give at least its head")
    shapes = [layer.kernel.shape for layer in layers]
    for i, (kernel, bias) in enumerate(layers):
        before = layers[i - 1].kernel.shape[1] if i else kernel.shape[0]
        if kernel.shape != (before, len(bias)):
            raise ValueError(
                f"layer {i} of {shapes} has {len(bias)} biases and is given {before}"
                " inputs; a kernel is [in, out], its bias [out], and each layer's out"
                " the next one's in"
            )
