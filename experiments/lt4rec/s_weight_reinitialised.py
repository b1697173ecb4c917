"""Control of Table 2: the tickets' masks over a fresh draw of all initial weights.

Is it the wiring that wins, or the weights it was found with?
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight (reinitialised)")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    pruning = replace(config.pruning, masks="reinitialised")
    return replace(config, pruning=pruning)
