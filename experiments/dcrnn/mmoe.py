"""Table 1, row `MMoE`, the baseline. Paper: click 0.6922, valid play 0.6721."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("MMoE", {"ctr.auc": 0.6922, "ctcvr.auc": 0.6721})


def configure(config: Config) -> Config:
    return variants.rival(config, "mmoe")
