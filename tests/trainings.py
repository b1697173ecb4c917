"""What a training's programs compute, by its setup alone."""

import jax

from jaxmtl.training import outputs, train


def step_of(setup, kind):
    """step(state, masks, gates, batch) of a kind, with the setup's numbers."""
    step = train.make_step(setup.spec, kind)
    return lambda state, *given: step(state, setup.numbers, *given)


def forward(setup, net, task_masks, features, names):
    spec = setup.spec
    return outputs.forward(spec.net, spec.output, net, task_masks, features, names)


def calibrate(setup, logits):
    output, numbers = setup.spec.output, setup.numbers
    return outputs.calibrate(setup.schema, output, numbers, logits)


def loss_logits(setup, logits):
    return outputs.loss_logits(setup.spec, setup.numbers, logits)


def predictions(setup, logits):
    output, numbers = setup.spec.output, setup.numbers
    return outputs.predictions(setup.schema, output, numbers, logits)


def moments(state, slot="all"):
    """Adam's moments in the state of the net's optimiser."""
    is_found = lambda part: hasattr(part, "square")
    parts = jax.tree.leaves(state.opt.slots[slot], is_leaf=is_found)
    (found,) = [part for part in parts if is_found(part)]
    return found


class Saved:
    """Copies all progress, as a folder does after each chunk."""

    def __init__(self):
        self.all = []

    def restore(self, like):
        return None

    def save(self, progress):
        self.all.append(jax.device_get(progress))
