"""Cross networks at equal size: a shared bottom over DCN's cross layers (eq. 1)."""

from dataclasses import replace

from experiments import sizes
from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import bilstm_ada, variants
from jaxmtl.models.crossing import Crossing
from jaxmtl.types import Schema

ROW = Row("shared-bottom over dcn")


def configure(config: Config) -> Config:
    crossing = replace(config.model.crossing, kind="dcn", hidden=16)
    config = variants.rival(config, "shared_bottom")
    return replace(config, model=replace(config.model, crossing=crossing))


def resize(config: Config, schema: Schema) -> Config:
    plain = replace(config, model=replace(config.model, crossing=Crossing("none")))
    target = sizes.net_size(bilstm_ada.configure(plain), schema)
    return variants.sized_bottom(config, schema, target)
