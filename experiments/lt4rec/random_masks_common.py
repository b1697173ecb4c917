"""Control of Table 2: one random draw for both tasks, dense as the tickets by layer.

The sparser task's weights lie among the denser one's: sparsity without separation.
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("random masks (one draw)")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    pruning = replace(config.pruning, masks="random_common")
    return replace(config, pruning=pruning)
