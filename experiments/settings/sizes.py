"""How large a configuration's net is, before anything is trained."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.settings.config import Config
from experiments.settings.setup import own_dims, task_names
from jaxmtl import models
from jaxmtl.data.store import Dataset
from jaxmtl.tables import embedding
from jaxmtl.types import Features, Key, Model, Params, Schema


def model_of(config: Config, schema: Schema) -> Model:
    """The model that a configuration trains on a log."""
    tasks = [schema.task(name) for name in task_names(config, schema)]
    return models.make(config.model.options, tasks, config.model.crossing)


def features_like(config: Config, schema: Schema, rows: int = 1) -> Features:
    """Features of the right shapes, all zero."""
    fields, dim = len(schema.fields), config.model.embedding_dim
    own = {
        name: jnp.zeros((rows, fields, width))
        for name, width in own_dims(config, schema).items()
    }
    numeric = jnp.zeros((rows, len(schema.numeric)))
    return Features(jnp.zeros((rows, fields, dim)), own, numeric)


def input_width(config: Config, schema: Schema) -> int:
    """Values that the embeddings and the numeric features give a net of a row."""
    return len(schema.fields) * config.model.embedding_dim + len(schema.numeric)


def net_size(config: Config, schema: Schema) -> int:
    """Parameters of the net, embeddings left out."""
    return _size(net_shapes(config, schema))


def table_size(config: Config, schema: Schema) -> int:
    """Parameters of the embedding tables."""
    own = sum(own_dims(config, schema).values())
    return embedding.vocabulary_rows(schema) * (config.model.embedding_dim + own)


def multiply_adds(config: Config, schema: Schema, rows: int = 256) -> float:
    """Multiply-adds of one row through the net, by the compiler's own count."""
    model = model_of(config, schema)
    net, features = net_shapes(config, schema), features_like(config, schema, rows)
    compiled = jax.jit(model.apply).lower(net, features).compile()
    return compiled.cost_analysis()["flops"] / 2 / rows


def examples(config: Config, data: Dataset) -> int:
    """How many rows a training reads at most, over all of its epochs."""
    return config.training.epochs * data.splits["train"].num_rows


def peak_memory(config: Config, data: Dataset) -> int:
    """An estimate of a training's peak memory, in bytes, all on one device.

    What is counted: the three splits; parameters with both moments, a gradient and
    the copies that early stopping keeps; and what the backward pass remembers of a
    batch. What is not: temporaries of the compiler, the runtime, the program itself.
    """
    schema = data.schema
    model, net = model_of(config, schema), net_shapes(config, schema)
    features = jax.eval_shape(
        lambda: features_like(config, schema, config.training.batch_size)
    )
    remembered = jax.eval_shape(
        lambda net, features: jax.vjp(lambda n: model.apply(n, features), net)[1],
        net,
        features,
    )
    splits = sum(leaf.nbytes for leaf in jax.tree.leaves(data.splits))
    tables = 4 * table_size(config, schema)
    counts = 8 * embedding.vocabulary_rows(schema)
    return splits + 6 * tables + counts + 7 * _bytes(net) + _bytes(remembered)


def describe(config: Config, data: Dataset) -> str:
    """Parameters and peak memory in a line."""
    net, tables = net_size(config, data.schema), table_size(config, data.schema)
    memory = peak_memory(config, data) / 2**20
    return (
        f"{net:,} parameters in the net, {tables:,} in tables; about {memory:,.0f} MiB"
        " at the peak of training, runtime and programs aside"
    )


def match(
    config: Config, schema: Schema, target: int, widen: Callable[[Config, int], Config]
) -> Config:
    """The configuration whose net comes closest to a number of parameters.

    Args:
      config: what to change.
      schema: of the log, which sets the width of the inputs.
      target: parameters of the net it should equal.
      widen: (config, width) -> config, whose net grows with the width.

    Returns:
      `widen` of the width from 1 to 4,096 whose net is nearest in size.
    """
    size = lambda width: net_size(widen(config, width), schema)
    low, high = 1, 4096
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= target else (low, middle)
    nearest = min((low, high), key=lambda width: abs(size(width) - target))
    return widen(config, nearest)


def net_shapes(config: Config, schema: Schema) -> Params:
    """The net's shapes; nothing is drawn, and equal configurations trace once."""
    return _init.eval_shape(config, schema, jax.random.key(0))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init(config: Config, schema: Schema, key: Key) -> Params:
    return model_of(config, schema).init(key, features_like(config, schema))


def _size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
