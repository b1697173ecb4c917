"""What the tests of several models share: inputs, and plain NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.types import Features, Task

BATCH, FIELDS, DIM, NUMERICS = 6, 4, 3, 2
FUNNEL = (
    Task("click"),
    Task("watch", kind="continuous", space="click", metric="mse"),
    Task("share", space="watch"),
)
"""Three tasks of both kinds, each in the space of the one before it."""


def draw_features(own=()):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    views = {task: draw(BATCH, FIELDS, 2) for task in own}
    return Features(draw(BATCH, FIELDS, DIM), views, draw(BATCH, NUMERICS))


def draw_like(init, features):
    """What `init` would return, all of it drawn anew: no parameter is zero.

    Only traced, so nothing is compiled for it.
    """
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(init, jax.random.key(0), features)

    def leaf(like):
        scale = like.shape[-2] ** -0.5 if len(like.shape) > 1 else 0.3
        return jnp.asarray(rng.normal(scale=scale, size=like.shape), like.dtype)

    return jax.tree.map(leaf, shapes)


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def flattened(features):
    """The vector a net starts from where nothing is crossed."""
    flat = np.asarray(features.shared, np.float64).reshape(len(features.shared), -1)
    return np.concatenate([flat, np.asarray(features.numeric, np.float64)], axis=1)


def dense(x, layer):
    return x @ layer["kernel"] + layer.get("bias", 0.0)


def mlp(x, layers):
    """Every layer of the dict, in order, with ReLU."""
    for name in sorted(name for name in layers if name.startswith("layer")):
        x = np.maximum(dense(x, layers[name]), 0)
    return x


def tower(x, own):
    return dense(mlp(x, own.get("mlp", {})), own["head"])[:, 0]


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))
