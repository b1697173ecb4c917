"""Control of Table 2: one threshold a layer, so that all layers are equally sparse."""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight (a quantile a layer)")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    pruning = replace(config.pruning, scope="layer")
    return replace(config, pruning=pruning)
