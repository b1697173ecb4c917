"""Table 2, `s-weight-taskbalance`. Paper: CVR MSE 0.13193, CTR AUC 0.78740.

The loss of equation 2 with b > a. A sum, because by turns Adam cancels the scale of a
loss, save where tasks share its moments.
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight-taskbalance", {"cvr.mse": 0.13193, "ctr.auc": 0.7874})


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    training = replace(config.training, schedule="sum", weights=(("cvr", 5.0),))
    return replace(config, training=training)
