"""Control of Table 2: the tickets' masks, each layer permuted alike for both tasks.

As many weights of each layer are shared, private and dead as under the tickets, but
they are other weights.
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("shuffled masks")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    pruning = replace(config.pruning, masks="shuffled")
    return replace(config, pruning=pruning)
