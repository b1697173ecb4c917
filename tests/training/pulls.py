"""A balancer that shows its pulls to the test which traces a step, and counts calls."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from jaxmtl.balancing import balancer
from jaxmtl.balancing.balancer import Balancer
from jaxmtl.types import Array

SHOWN = []
"""Of each step that is traced: task -> its pull, and that of the auxiliary losses."""


@dataclasses.dataclass(frozen=True)
class Pulls:
    """The plain sum."""


class State(NamedTuple):
    """The losses of the last step, before and after it."""

    before: dict[str, Array]
    after: dict[str, Array]


def pulls(options: Pulls) -> Balancer:
    """The balancer."""
    del options

    def init(tasks, key, weights):
        del key, weights
        return State(balancer.filled(tasks), balancer.filled(tasks))

    def combine(losses, pull, state, *, masks, counts, step, learning_rate):
        del masks, step, learning_rate
        ones = {name: jnp.ones(()) for name in losses}
        each, rest = balancer.pull_each(pull, ones)
        SHOWN.append((each, rest, pull(ones), counts))
        return pull(ones), state, ones

    def after(state, before, after):
        return State(dict(before), dict(after))

    return Balancer(init, combine, after)
