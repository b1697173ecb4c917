"""Rival of Table 2: an MMoE with as many parameters as sNET before pruning."""

from dataclasses import replace

from experiments.settings import sizes, variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config
from jaxmtl.types import Schema

ROW = Row("mmoe (sNET's size)")


def configure(config: Config) -> Config:
    return variants.rival(config, "mmoe")


def resize(config: Config, schema: Schema) -> Config:
    trunk = replace(config, model=replace(config.model, architecture="shared_trunk"))
    return variants.sized_mmoe(config, schema, sizes.net_size(trunk, schema))
