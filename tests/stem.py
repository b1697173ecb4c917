"""A toy of STEM, in which a task reads all tasks' embeddings and trains its own alone.

Su et al., "STEM: Unleashing the Power of Embeddings for Multi-task Recommendation",
AAAI 2024: its stop-gradient gate, with a linear head for an expert.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxmtl.keys import named
from jaxmtl.types import Model, Outputs


@dataclasses.dataclass(frozen=True)
class Stem:
    """Hyper-parameters.

    Attributes:
      stops: whether a loss moves its own task's embeddings alone, besides the shared.
      auxiliary: weight of the mean square of the logits in the loss.
    """

    stops: bool = True
    auxiliary: float = 0.0


def stem(options: Stem, tasks, layer) -> Model:
    """The model; a task without a stack of its own reads those of the others."""
    del layer
    names = [task.name for task in tasks]
    flat = lambda x: x.reshape(len(x), -1)

    def views(features, task):
        for name, own in sorted(features.own.items()):
            is_others = options.stops and name != task
            yield flat(jax.lax.stop_gradient(own) if is_others else own)

    def vector(features, task):
        return jnp.concatenate([flat(features.shared), *views(features, task)], 1)

    def init(key, features):
        width = vector(features, None).shape[1]
        draw = lambda name: jax.random.normal(named(key, name), (width, 1))
        own = {name: {"head": {"kernel": draw(name)}} for name in names}
        return {"shared": {"scale": {"bias": jnp.ones(1)}}, "tasks": own}

    def apply(net, features, *, key=None):
        del key
        scale = net["shared"]["scale"]["bias"]
        head = lambda name: net["tasks"][name]["head"]["kernel"]
        score = lambda name: (vector(features, name) @ head(name) * scale)[:, 0]
        return Outputs({name: score(name) for name in names})

    def aux_loss(logits, valid):
        squares = sum(jnp.square(x) for x in logits.values())
        return options.auxiliary * jnp.mean(squares, where=valid)

    aux = aux_loss if options.auxiliary else None
    return Model(init, apply, aux, reads_all_stacks=True)
