"""Table 2, `s-weight-gradientconflict`. Paper: CVR MSE 0.13181, CTR AUC 0.78801.

The CVR's loss counts five times on clicked rows that were hardly watched, by the
rule in the authors' code where the log has durations.
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight-gradientconflict", {"cvr.mse": 0.13181, "ctr.auc": 0.78801})


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    training = replace(config.training, conflict_factor=5.0)
    return replace(config, training=training)
