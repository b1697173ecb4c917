"""Control of Table 4: an MMoE with as many parameters as DCRNN+BiLSTM+Ada there."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import mmoe_matched
from jaxmtl.types import Schema

ROW = Row("MMoE (DCRNN's size)")


def configure(config: Config) -> Config:
    return mmoe_matched.configure(variants.ali_ccp(config))


def resize(config: Config, schema: Schema) -> Config:
    return mmoe_matched.resize(config, schema)
