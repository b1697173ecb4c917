"""Table 2, row `DCRNN+GRU`. Paper: click 0.6943, valid play 0.6977."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+GRU", {"ctr.auc": 0.6943, "ctcvr.auc": 0.6977})


def configure(config: Config) -> Config:
    return variants.dcrnn(config, cell="gru", bidirectional=False, adaptation=False)
