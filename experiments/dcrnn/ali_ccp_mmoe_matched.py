"""Control of Table 4: an MMoE with as many parameters as DCRNN+BiLSTM+Ada there."""

from experiments.dcrnn import mmoe_matched
from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config
from jaxmtl.types import Schema

ROW = Row("MMoE (DCRNN's size)")


def configure(config: Config) -> Config:
    return mmoe_matched.configure(variants.ali_ccp(config))


def resize(config: Config, schema: Schema) -> Config:
    return mmoe_matched.resize(config, schema)
