"""From a model's logits to what losses learn from and what is reported.

A focal loss learns no odds, and weights on some rows of a loss shift those it learns.
Here every logit is recalibrated first (`losses.odds_learned`; King and Zeng, "Logistic
Regression in Rare Events Data", 2001, section 4.1: the prior correction) and only then
multiplied or reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp

from jaxmtl import losses, spaces
from jaxmtl.spaces import JOINT, is_nested, product_logit
from jaxmtl.sparsity import masks
from jaxmtl.training.setup import Setup
from jaxmtl.types import Array, Batch, Features, Mask, Outputs, Params

T = TypeVar("T")


def forward(
    setup: Setup,
    net: Params,
    task_masks: Mapping[str, Mask | None],
    features: Features,
    names: Sequence[str],
) -> Outputs:
    """The raw logits of some tasks, each seen through its own mask.

    Without masks one pass through the net serves them all; with them there is one a
    task.
    """
    apply = in_precision(setup, setup.model.apply)
    if not setup.masked:
        logits = apply(net, features).logits
        return Outputs({name: logits[name] for name in names})
    seen = {name: masks.apply(net, task_masks[name]) for name in names}
    return Outputs({n: apply(seen[n], features).logits[n] for n in names})


def in_precision(setup: Setup, function: Callable[..., T]) -> Callable[..., T]:
    """A function computed in the setup's precision, from float32 to float32.

    The one place where anything is cast: gradients come back through it in float32.
    """

    def compute(*args):
        if setup.precision == "float32":
            # Unasked, accelerators round a product's factors to bfloat16 or TF32.
            with jax.default_matmul_precision("float32"):
                return function(*args)
        return _cast(function(*_cast(args, setup.precision)), jnp.float32)

    return compute


def _cast(tree, dtype):
    is_real = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.floating)
    cast = lambda x: jnp.asarray(x, dtype) if is_real(x) else x
    return jax.tree.map(cast, tree)


def calibrate(setup: Setup, logits: Mapping[str, Array]) -> dict[str, Array]:
    """Log-odds from raw logits: without what the loss, or weights in it, did to them.

    The logit of a product needs none: its loss is taken on that of the joint event.
    """
    found, names = {}, dict(setup.task_losses)
    for name, logit in logits.items():
        task = setup.schema.task(name)
        if not setup.is_product(name):
            logit = losses.odds_learned(names[name], logit) - _log_weight(setup, name)
        if setup.conflict:
            logit = logit + setup.conflict.offset(task)
        found[name] = logit
    return found


def loss_logits(setup: Setup, logits: Mapping[str, Array]) -> dict[str, Array]:
    """Raw logits of the tasks in `setup.learned`: what the loss is taken on.

    The logits of a product are formed from recalibrated ones, and shifted by the
    weight of its own positives, which the weighted loss then takes off again.
    """
    if setup.spaces != "product":
        return dict(logits)
    calibrated = calibrate(setup, logits)
    return {
        name: _joint(setup, calibrated, name) + _log_weight(setup, name)
        if setup.is_product(name)
        else logit
        for name, logit in logits.items()
    }


def mean_loss(setup: Setup, name: str, logits: Array, batch: Batch) -> Array:
    """The loss of a task in `setup.learned`, before its weight in the sum.

    Args:
      setup: names the loss and its weights.
      name: of the task.
      logits: of `loss_logits`, [batch].
      batch: with the joint labels (`with_joint`).
    """
    weighted = setup.conflict and setup.conflict.task == name
    return losses.task_loss(
        setup.learned[name],
        logits,
        batch,
        name=dict(setup.task_losses)[name],
        weight=setup.conflict.row_weight(batch) if weighted else None,
        positive=dict(setup.positive_weights).get(name, 1.0),
    ).mean


def with_joint(setup: Setup, batch: Batch) -> Batch:
    """The batch with the labels of joint tasks, where any is learned."""
    if setup.spaces == "own":
        return batch
    labels = spaces.with_joint(setup.schema, batch.rows.labels)
    return Batch(batch.rows._replace(labels=labels), batch.valid)


def predictions(setup: Setup, logits: Mapping[str, Array]) -> dict[str, Array]:
    """What is reported: a task's prediction in its space, and its joint one.

    Args:
      setup: what the logits stand for.
      logits: name -> raw logits [batch].

    Returns:
      name -> probability (or value) inside the task's own space, and `joint.<name>`
      -> the one among all impressions, for nested tasks. What the trained tasks do
      not tell is left out: a task has one of the two where the tasks that lead to it
      are not trained, or are continuous. Under the spaces `impression` the first is
      the quotient of two predictions that were learned apart, clipped to the labels'
      range where the joint event comes out likelier than the one before it.
    """
    calibrated, found = calibrate(setup, logits), {}
    for name, logit in calibrated.items():
        task = setup.schema.task(name)
        predicted = losses.predict(task, logit)
        if not is_nested(task):
            found[name] = predicted
        elif setup.spaces == "impression":
            found[JOINT + name] = predicted
            if _tells_events(setup, logits, [task.space]):
                above = jax.nn.sigmoid(calibrated[task.space])
                inside = predicted / jnp.maximum(above, jnp.finfo(above.dtype).tiny)
                found[name] = jnp.clip(inside, 0, task.high)
        else:
            found[name] = predicted
            before = [t.name for t in setup.schema.funnel(name)[:-1]]
            if not _tells_events(setup, logits, before):
                continue
            if task.is_probability:
                found[JOINT + name] = jax.nn.sigmoid(_joint(setup, calibrated, name))
            else:
                above = product_logit([calibrated[t] for t in before])
                found[JOINT + name] = predicted * jax.nn.sigmoid(above)
    return found


def _tells_events(
    setup: Setup, logits: Mapping[str, Array], names: Sequence[str]
) -> bool:
    """Whether the chance of a positive label is known for each of some tasks.

    An expected watch ratio is no chance of any watching.
    """
    return all(n in logits and setup.schema.task(n).kind == "binary" for n in names)


def _joint(setup: Setup, calibrated: Mapping[str, Array], name: str) -> Array:
    return product_logit([calibrated[t.name] for t in setup.schema.funnel(name)])


def _log_weight(setup: Setup, name: str) -> Array | float:
    """Of a task's positives: how far the weight shifts the odds that it learns."""
    weights = dict(setup.positive_weights)
    return jnp.log(weights[name]) if name in weights else 0.0
