"""Table 2, row `base ctr`: a single task. Paper: CTR AUC 0.78572.

Figure 1: embeddings, crosses and an MLP of its own.
"""

from dataclasses import replace

from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("base ctr", {"ctr.auc": 0.78572})


def configure(config: Config) -> Config:
    training = replace(config.training, tasks="ctr")
    return replace(config, training=training)
