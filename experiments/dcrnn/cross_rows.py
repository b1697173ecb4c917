"""What the rows of `dcrnn.cross` have in common: a shared bottom of DCRNN's size."""

from __future__ import annotations

from dataclasses import replace

from experiments.dcrnn import bilstm_ada
from experiments.settings import sizes, variants
from experiments.settings.config import Config
from jaxmtl.layers.crossing import Crossing
from jaxmtl.types import Schema


def over(config: Config, kind: str) -> Config:
    """A shared bottom over a cross network."""
    crossing = replace(config.model.crossing, kind=kind, hidden=16)
    config = variants.rival(config, "shared_bottom")
    return replace(config, model=replace(config.model, crossing=crossing))


def resize(config: Config, schema: Schema) -> Config:
    """As wide as it takes for the whole net to equal DCRNN+BiLSTM+Ada in size."""
    plain = replace(config, model=replace(config.model, crossing=Crossing("none")))
    target = sizes.net_size(bilstm_ada.configure(plain), schema)
    return variants.sized_bottom(config, schema, target)
