"""Control of Table 1: an MMoE with as many parameters as DCRNN+BiLSTM+Ada.

The paper compares 5.79 million parameters with 1.42 million. Here the experts are as
many and of the same shape, but as narrow as it takes for the two nets to be equal.
"""

from experiments.dcrnn import bilstm_ada
from experiments.settings import sizes, variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config
from jaxmtl.types import Schema

ROW = Row("MMoE (DCRNN's size)")


def configure(config: Config) -> Config:
    return variants.rival(config, "mmoe")


def resize(config: Config, schema: Schema) -> Config:
    target = sizes.net_size(bilstm_ada.configure(config), schema)
    return variants.sized_mmoe(config, schema, target)
