"""Table 2, row `base cvr`: a single task. Paper: CVR MSE 0.13688.

Figure 1, trained and judged on clicked rows only.
"""

from dataclasses import replace

from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("base cvr", {"cvr.mse": 0.13688})


def configure(config: Config) -> Config:
    training = replace(config.training, tasks="cvr")
    return replace(config, training=training)
