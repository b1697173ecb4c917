"""Control of Table 2: the loss of equation 2 with a = b = 1.

What `s_weight_taskbalance` owes to its weight is the difference to this row; the
rest is the sum that takes the place of turns.
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight (sum, 1 : 1)")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    training = replace(config.training, schedule="sum")
    return replace(config, training=training)
