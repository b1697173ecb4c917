"""What several models share: an MLP, a task's tower, the layer that feeds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn

from jaxmtl.types import Array, Features, Key


class FeatureLayer(NamedTuple):
    """What turns pooled embeddings into the vector a net starts from.

    Attributes:
      init: (key, features) -> {its name: parameters} for `net["shared"]`, or {}
        where it has none. Of `features` only the shapes are read.
      apply: (net["shared"], features) -> [batch, width]. A task's own views in
        `features.own` are not its concern.
    """

    init: Callable[[Key, Features], dict[str, Any]]
    apply: Callable[[dict[str, Any], Features], Array]


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


class Tower(nn.Module):
    """A task's own MLP and its head: [batch, width] -> one logit a row, [batch]."""

    hidden: Sequence[int]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(1, name="head")(MLP(self.hidden, name="mlp")(x))[:, 0]


def refuse_own_views(name: str, features: Features) -> None:
    """Raises ValueError where a model that knows none is given a task's own view."""
    if features.own:
        raise ValueError(
            f"{name} has no own views; got one for {sorted(features.own)}: set"
            " model.own-dims to nothing"
        )
