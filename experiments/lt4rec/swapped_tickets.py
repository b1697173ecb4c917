"""Control of Table 2: each task has the other's ticket.

Does it matter whose ticket it is?
"""

from dataclasses import replace

from experiments.ablation import Row
from experiments.config import Config
from experiments.lt4rec import s_weight

ROW = Row("swapped tickets")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    pruning = replace(config.pruning, masks="swapped")
    return replace(config, pruning=pruning)
