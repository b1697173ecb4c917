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
from jaxmtl.training.spec import NetSpec, Numbers, OutputSpec, TrainSpec
from jaxmtl.types import Array, Batch, Features, Mask, Outputs, Params, Schema

T = TypeVar("T")


def forward(
    net: NetSpec,
    output: OutputSpec,
    params: Params,
    task_masks: Mapping[str, Mask | None],
    features: Features,
    names: Sequence[str],
) -> Outputs:
    """The raw logits of some tasks, each seen through its own mask.

    Without masks one pass through the net serves them all; with them there is one a
    task.
    """
    apply = in_precision(output, net.model.apply)
    if not net.masked:
        logits = apply(params, features).logits
        return Outputs({name: logits[name] for name in names})
    seen = {name: masks.apply(params, task_masks[name]) for name in names}
    return Outputs({n: apply(seen[n], features).logits[n] for n in names})


def in_precision(output: OutputSpec, function: Callable[..., T]) -> Callable[..., T]:
    """A function computed in a precision, from float32 to float32.

    The one place where anything is cast: gradients come back through it in float32.
    """

    def compute(*args):
        if output.precision == "float32":
            # Unasked, accelerators round a product's factors to bfloat16 or TF32.
            with jax.default_matmul_precision("float32"):
                return function(*args)
        return _cast(function(*_cast(args, output.precision)), jnp.float32)

    return compute


def _cast(tree, dtype):
    is_real = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.floating)
    cast = lambda x: jnp.asarray(x, dtype) if is_real(x) else x
    return jax.tree.map(cast, tree)


def calibrate(
    schema: Schema, output: OutputSpec, numbers: Numbers, logits: Mapping[str, Array]
) -> dict[str, Array]:
    """Log-odds from raw logits: without what the loss, or weights in it, did to them.

    The logit of a product needs none: its loss is taken on that of the joint event.
    """
    found, links = {}, dict(output.links)
    for name, logit in logits.items():
        if not output.is_product(schema.task(name)):
            logit = losses.odds_learned(links.get(name, "log"), logit)
        found[name] = logit - numbers.offsets[name]
    return found


def loss_logits(
    spec: TrainSpec, numbers: Numbers, logits: Mapping[str, Array]
) -> dict[str, Array]:
    """Raw logits of the tasks in `spec.learned`: what the loss is taken on.

    The logits of a product are formed from recalibrated ones, and shifted by the
    weight of its own positives, which the weighted loss then takes off again.
    """
    if spec.output.spaces != "product":
        return dict(logits)
    schema, weights = spec.net.schema, numbers.positive_weights
    calibrated = calibrate(schema, spec.output, numbers, logits)

    def learned(name: str) -> Array:
        if not spec.output.is_product(schema.task(name)):
            return logits[name]
        shift = jnp.log(weights[name]) if name in weights else 0.0
        return _joint(schema, calibrated, name) + shift

    return {name: learned(name) for name in logits}


def losses_of(
    spec: TrainSpec, numbers: Numbers, logits: Mapping[str, Array], batch: Batch
) -> tuple[dict[str, Array], Array]:
    """Each task's mean loss, before its weight in the sum; and the model's own.

    Args:
      spec: names the losses.
      numbers: their weights.
      logits: task -> raw logits [batch].
      batch: with the joint labels (`with_joint`).
    """
    own = jnp.zeros((), jnp.float32)
    if aux_loss := spec.net.model.aux_loss:
        calibrated = calibrate(spec.net.schema, spec.output, numbers, logits)
        own = own + aux_loss(calibrated, batch.valid)
    learned = loss_logits(spec, numbers, logits)
    return {n: mean_loss(spec, numbers, n, x, batch) for n, x in learned.items()}, own


def mean_loss(
    spec: TrainSpec, numbers: Numbers, name: str, logits: Array, batch: Batch
) -> Array:
    """The loss of a task in `spec.learned`, before its weight in the sum.

    Args:
      spec: names the loss.
      numbers: its weights.
      name: of the task.
      logits: of `loss_logits`, [batch].
      batch: with the joint labels (`with_joint`).
    """
    conflict, weight = spec.loss.conflict, None
    if conflict and conflict.task == name:
        weight = conflict.row_weight(batch, numbers.conflict_factor)
    return losses.task_loss(
        spec.learned[name],
        logits,
        batch,
        name=dict(spec.loss.names)[name],
        weight=weight,
        positive=numbers.positive_weights.get(name, 1.0),
    ).mean


def with_joint(spec: TrainSpec, batch: Batch) -> Batch:
    """The batch with the labels of joint tasks, where any is learned."""
    if spec.output.spaces == "own":
        return batch
    labels = spaces.with_joint(spec.net.schema, batch.rows.labels)
    return Batch(batch.rows._replace(labels=labels), batch.valid)


def predictions(
    schema: Schema, output: OutputSpec, numbers: Numbers, logits: Mapping[str, Array]
) -> dict[str, Array]:
    """What is reported: a task's prediction in its space, and its joint one.

    Args:
      schema: of the tasks.
      output: what the logits stand for.
      numbers: what weights in the loss did to them.
      logits: name -> raw logits [batch].

    Returns:
      name -> probability (or value) inside the task's own space, and `joint.<name>`
      -> the one among all impressions, for nested tasks. What the trained tasks do
      not tell is left out: a task has one of the two where the tasks that lead to it
      are not trained, or are continuous. Under the spaces `impression` the first is
      the quotient of two predictions that were learned apart, clipped to the labels'
      range where the joint event comes out likelier than the one before it.
    """
    calibrated, found = calibrate(schema, output, numbers, logits), {}
    for name, logit in calibrated.items():
        task = schema.task(name)
        predicted = losses.predict(task, logit)
        if not is_nested(task):
            found[name] = predicted
        elif output.spaces == "impression":
            found[JOINT + name] = predicted
            if _tells_events(schema, logits, [task.space]):
                above = jax.nn.sigmoid(calibrated[task.space])
                inside = predicted / jnp.maximum(above, jnp.finfo(above.dtype).tiny)
                found[name] = jnp.clip(inside, 0, task.high)
        else:
            found[name] = predicted
            before = [t.name for t in schema.funnel(name)[:-1]]
            if not _tells_events(schema, logits, before):
                continue
            if task.is_probability:
                found[JOINT + name] = jax.nn.sigmoid(_joint(schema, calibrated, name))
            else:
                above = product_logit([calibrated[t] for t in before])
                found[JOINT + name] = predicted * jax.nn.sigmoid(above)
    return found


def _tells_events(
    schema: Schema, logits: Mapping[str, Array], names: Sequence[str]
) -> bool:
    """Whether the chance of a positive label is known for each of some tasks.

    An expected watch ratio is no chance of any watching.
    """
    return all(n in logits and schema.task(n).kind == "binary" for n in names)


def _joint(schema: Schema, calibrated: Mapping[str, Array], name: str) -> Array:
    return product_logit([calibrated[t.name] for t in schema.funnel(name)])
