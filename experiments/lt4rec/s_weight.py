"""Table 2, row `s-weight`: Algorithm 1. Paper: CVR MSE 0.13226, CTR AUC 0.78874.

Each task finds its own mask of single weights by iterative magnitude pruning with
rewinding; then both train their subnetworks of one net by turns.
"""

from dataclasses import replace

from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight", {"cvr.mse": 0.13226, "ctr.auc": 0.78874})


def configure(config: Config) -> Config:
    pruning = replace(config.pruning, masks="ticket")
    return replace(config, pruning=pruning)
