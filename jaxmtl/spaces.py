"""Label spaces: what holds among clicks, and what holds among all impressions.

A task may live inside another's positive rows: an order on clicked rows. Its
*joint* task is the same event among all impressions: clicked and ordered. Models
differ in which of the two they learn (`Spaces`); every one of them is asked for both,
so that a table never compares an AUC on clicks with one on impressions. Products of
probabilities are formed in log space, as ESMM needs (Ma et al., SIGIR 2018, eq. 1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.types import IMPRESSION, Array, Schema, Task

Spaces = Literal["own", "product", "impression"]
"""What a model's logits of a nested task stand for, and where its loss is taken:
`own`, inside the task's space on its rows; `product`, inside the space, but learned
from the joint event through the product with the tasks before it (ESMM);
`impression`, the joint event on all impressions (AITM, and DCRNN's Ali-CCP study);
what it predicts inside the space is a quotient of two predictions, clipped."""
JOINT = "joint."
"""`joint.order` names the joint task of `order`."""


def is_nested(task: Task) -> bool:
    """Whether a task has a space of its own, and so a joint task beside it."""
    return task.space != IMPRESSION


def joint_task(task: Task) -> Task:
    """The event of a nested task among all impressions."""
    return dataclasses.replace(task, name=JOINT + task.name, space=IMPRESSION)


def with_joint(schema: Schema, labels: Mapping[str, Any]) -> dict[str, Any]:
    """The labels with those of the joint tasks of every nested task.

    A joint label is 0 where a task before it has none, whatever its own label says,
    and NaN where that is unknown.

    Args:
      schema: of the rows.
      labels: task name -> [n], all of them NumPy's or all of them JAX's.
    """
    found = dict(labels)
    for task in filter(is_nested, schema.tasks):
        label = labels[task.name]
        where = jnp.where if isinstance(label, jax.Array) else np.where
        for before in reversed(schema.funnel(task.name)[:-1]):
            above = labels[before.name]
            label = where(above > 0, label, above * 0)  # NaN stays NaN
        found[JOINT + task.name] = label
    return found


def product_logit(logits: Sequence[Array]) -> Array:
    """The log-odds of a product of probabilities, each given by its logit.

    Args:
      logits: at least one array, [batch].

    Returns:
      log(p / (1 − p)), [batch], for p = Π sigmoid(logit), without ever forming a
      probability: p may lie far below the smallest float.
    """
    if len(logits) == 1:
        return logits[0]
    log_p = sum(jax.nn.log_sigmoid(logit) for logit in logits)
    # Where every factor rounds to 1, so does p: keep its logit and slope finite.
    log_p = jnp.minimum(log_p, -jnp.finfo(log_p.dtype).tiny)
    near = log_p > -jnp.log(2.0)
    log_not = jnp.where(
        near,
        jnp.log(-jnp.expm1(jnp.where(near, log_p, -1.0))),
        jnp.log1p(-jnp.exp(jnp.where(near, -1.0, log_p))),
    )
    return log_p - log_not


def check_funnel(architecture: str, schema: Schema, names: Sequence[str]) -> None:
    """Raises ValueError where a model of whole funnels cannot learn these tasks."""
    tasks = [schema.task(name) for name in names]
    needs = f"{architecture} needs a declared funnel"
    if not any(is_nested(task) for task in tasks):
        raise ValueError(
            f"{needs}; of the tasks {list(names)} of schema {schema.name} none lives"
            " in another's space: give one `space`, or use another architecture"
        )
    for task in tasks:
        if is_nested(task) and task.space not in names:
            raise ValueError(
                f"{needs}; task {task.name!r} of schema {schema.name} lives in the"
                f" space {task.space!r}, which is not trained: train it too"
            )
        if not task.is_probability:
            raise ValueError(
                f"{needs} with labels in [0, 1]; task {task.name!r} of schema"
                f" {schema.name} has labels up to {task.high:g}: leave it out, or use"
                " another architecture"
            )
        if is_nested(task) and schema.task(task.space).kind != "binary":
            raise ValueError(
                f"{needs} of events; task {task.name!r} of schema {schema.name} lives"
                f" in the space of {task.space!r}, whose label is continuous, and an"
                " expected value is no chance: leave it out, or use another"
                " architecture"
            )
