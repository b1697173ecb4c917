"""Control of Table 2: random masks with the tickets' density in every layer.

Does it matter which weights a task keeps?
"""

from dataclasses import replace

from experiments.ablation import Preset, Row
from experiments.config import Config
from experiments.lt4rec import s_weight

ROW = Row("random masks")


def configure(preset: Preset) -> Config:
    config = s_weight.configure(preset)
    pruning = replace(config.pruning, masks="random")
    return replace(config, pruning=pruning)
