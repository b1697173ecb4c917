"""Table 2, row `s-neuron`: whole neurons. Paper: CVR MSE 0.13531, CTR AUC 0.78346.

Density is counted in weights kept, so it compares with `s_weight`. All layers lose
the same fraction of their neurons: one ranking for the net leaves the last layer a
single neuron, and training dies there.
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-neuron", {"cvr.mse": 0.13531, "ctr.auc": 0.78346})


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    pruning = replace(config.pruning, unit="neuron", scope="layer")
    return replace(config, pruning=pruning)
