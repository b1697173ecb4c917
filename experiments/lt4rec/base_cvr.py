"""Table 2, row `base cvr`: a single task. Paper: CVR MSE 0.13688.

Figure 1, trained and judged on clicked rows only.
"""

from dataclasses import replace

from experiments.ablation import Preset, Row
from experiments.config import Config
from experiments.lt4rec import base

ROW = Row("base cvr", {"cvr.mse": 0.13688})


def configure(preset: Preset) -> Config:
    config = base.configure(preset)
    training = replace(config.training, tasks="cvr")
    return replace(config, training=training)
