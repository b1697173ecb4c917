"""Control of Table 2: the CTR alone, trained with its own mask.

Is the gain sharing, or is it pruning?
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("ticket ctr")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    training = replace(config.training, tasks="ctr")
    return replace(config, training=training)
