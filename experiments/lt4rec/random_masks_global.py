"""Control of Table 2: random masks with the tickets' density in the net as a whole.

Against `random_masks`, does it matter how the survivors spread over the layers?
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("random masks (global)")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    pruning = replace(config.pruning, masks="random_global")
    return replace(config, pruning=pruning)
