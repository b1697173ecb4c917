"""Control of Table 2: one plain Adam, as in the authors' code.

A task's step goes on moving the other task's weights on their momentum.
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight (leaky)")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    optimiser = replace(config.optimiser, moving="leaky")
    return replace(config, optimiser=optimiser)
