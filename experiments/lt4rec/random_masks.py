"""Control of Table 2: random masks with the tickets' density in every layer.

Does it matter which weights a task keeps?
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("random masks")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    pruning = replace(config.pruning, masks="random")
    return replace(config, pruning=pruning)
