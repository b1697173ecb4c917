"""Control of Table 2: each task has the other's ticket.

Does it matter whose ticket it is?
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("swapped tickets")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    pruning = replace(config.pruning, masks="swapped")
    return replace(config, pruning=pruning)
