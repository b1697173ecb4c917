"""From a model's logits to what losses learn from and what is reported.

Weights on some rows of a loss shift the odds that it learns. Here every logit is
recalibrated first (King and Zeng, "Logistic Regression in Rare Events Data", 2001,
section 4.1: the prior correction) and only then multiplied or reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxmtl import losses, masks
from jaxmtl.setup import Setup
from jaxmtl.spaces import JOINT, is_nested, product_logit
from jaxmtl.types import Array, Features, Mask, Outputs, Params


def forward(
    setup: Setup,
    net: Params,
    task_masks: Mapping[str, Mask | None],
    features: Features,
    names: Sequence[str],
) -> Outputs:
    """The raw logits of some tasks, each seen through its own mask.

    Without masks one pass through the net serves them all. With them there is one a
    task, and the models' own losses are summed over the passes.
    """
    if not setup.masked:
        outputs = _apply(setup, net, features)
        return Outputs({n: outputs.logits[n] for n in names}, outputs.aux_loss)
    logits, aux_loss = {}, 0.0
    for name in names:
        outputs = _apply(setup, masks.apply(net, task_masks[name]), features)
        logits[name] = outputs.logits[name]
        aux_loss += outputs.aux_loss
    return Outputs(logits, aux_loss)


def _apply(setup: Setup, net: Params, features: Features) -> Outputs:
    """The model in the setup's precision, between parameters and logits in float32.

    The one place where anything is cast: gradients come back through it in float32.
    """
    if setup.precision == "float32":
        return setup.model.apply(net, features)
    cast = lambda tree, dtype: jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)
    narrow = cast((net, features), setup.precision)
    return cast(setup.model.apply(*narrow), jnp.float32)


def calibrate(setup: Setup, logits: Mapping[str, Array]) -> dict[str, Array]:
    """Raw logits without the shift that weights in the loss gave their odds."""
    found = {}
    for name, logit in logits.items():
        task = setup.schema.task(name)
        if not _is_product(setup, name):
            logit = logit - _log_weight(setup, name)
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
        if _is_product(setup, name)
        else logit
        for name, logit in logits.items()
    }


def predictions(setup: Setup, logits: Mapping[str, Array]) -> dict[str, Array]:
    """What is reported: a task's prediction in its space, and its joint one.

    Args:
      setup: what the logits stand for.
      logits: name -> raw logits [batch].

    Returns:
      name -> probability (or value) inside the task's own space, and `joint.<name>`
      -> the one among all impressions, for nested tasks. What the trained tasks do
      not tell is left out: a task has one of the two where the tasks that lead to it
      are not trained, or are continuous.
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


def _is_product(setup: Setup, name: str) -> bool:
    return setup.spaces == "product" and is_nested(setup.schema.task(name))


def _log_weight(setup: Setup, name: str) -> Array | float:
    """Of a task's positives: how far the weight shifts the odds that it learns."""
    weights = dict(setup.positive_weights)
    return jnp.log(weights[name]) if name in weights else 0.0
