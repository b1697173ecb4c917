"""What the rows have in common: a DCRNN or a rival with a field or two changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.settings import sizes
from experiments.settings.config import Config
from jaxmtl.types import Schema


def dcrnn(config: Config, **changes: Any) -> Config:
    """A DCRNN with some of its settings changed."""
    options = replace(config.model.dcrnn, **changes)
    model = replace(config.model, architecture="dcrnn", dcrnn=options)
    return replace(config, model=model)


def ali_ccp(config: Config) -> Config:
    """The paper's settings for Ali-CCP: L = 3, I = 1, 3 epochs, all of them run."""
    options = replace(config.model.dcrnn, length=3, interval=1)
    training = replace(config.training, epochs=3, patience=3)
    model = replace(config.model, dcrnn=options)
    return replace(config, model=model, training=training)


def rival(config: Config, architecture: str, **changes: Any) -> Config:
    """Another architecture, with some of its settings changed."""
    options = replace(getattr(config.model, architecture), **changes)
    model = replace(config.model, architecture=architecture, **{architecture: options})
    return replace(config, model=model)


def product(config: Config) -> Config:
    """Learns joint events through products of probabilities, as ESMM does."""
    return replace(config, training=replace(config.training, spaces="product"))


def tickets(config: Config) -> Config:
    """Sparse sharing by LT4REC's Algorithm 1, lines 1-11, of any architecture.

    The subnetworks then train on the sum of losses, as the dense rows beside them
    do: the masks are all that differs.
    """
    return replace(config, pruning=replace(config.pruning, masks="ticket"))


def sized_mmoe(config: Config, schema: Schema, target: int) -> Config:
    """An MMoE of a given number of parameters, its experts in the paper's shape."""

    def widen(config: Config, width: int) -> Config:
        return rival(config, "mmoe", expert_hidden=(2 * width, width))

    return sizes.match(config, schema, target, widen)


def sized_bottom(config: Config, schema: Schema, target: int) -> Config:
    """A shared bottom of a given number of parameters, whatever feeds it."""

    def widen(config: Config, width: int) -> Config:
        return rival(config, "shared_bottom", hidden=(2 * width, width))

    return sizes.match(config, schema, target, widen)
