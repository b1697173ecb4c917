"""Control of Table 2: both tasks have the CTR's ticket.

A ticket without separation: hard sharing of a sparse net.
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("CTR's ticket for both")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    pruning = replace(config.pruning, masks="ctr")
    return replace(config, pruning=pruning)
