"""Table 2, row `s-neuron`: whole neurons. Paper: CVR MSE 0.13531, CTR AUC 0.78346.

Density is counted in weights kept, so it compares with `s_weight`.
"""

from dataclasses import replace

from experiments.ablation import Preset, Row
from experiments.config import Config
from experiments.lt4rec import s_weight

ROW = Row("s-neuron", {"cvr.mse": 0.13531, "ctr.auc": 0.78346})


def configure(preset: Preset) -> Config:
    config = s_weight.configure(preset)
    pruning = replace(config.pruning, unit="neuron")
    return replace(config, pruning=pruning)
