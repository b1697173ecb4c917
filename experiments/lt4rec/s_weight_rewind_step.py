"""Control of Table 2: rounds and joint training rewind to an early step, not to 0.

After `--pruning.rewind-step` steps of dense joint training (the multi-task warm-up of
Sun et al., 2020).
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight (rewind to a step)")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    pruning = replace(config.pruning, rewind="step")
    return replace(config, pruning=pruning)
