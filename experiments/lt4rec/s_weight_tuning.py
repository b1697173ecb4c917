"""Table 2, row `s-weight-tuning`. Paper: CVR MSE 0.13171, CTR AUC 0.78689.

Task balance and gradient conflict together.
"""

from dataclasses import replace

from experiments.lt4rec import s_weight_taskbalance
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight-tuning", {"cvr.mse": 0.13171, "ctr.auc": 0.78689})


def configure(config: Config) -> Config:
    config = s_weight_taskbalance.configure(config)
    training = replace(config.training, conflict_factor=5.0)
    return replace(config, training=training)
