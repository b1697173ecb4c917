"""Table 2, row `DCRNN+BiGRU`. Paper: click 0.6952, valid play 0.6748."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+BiGRU", {"ctr.auc": 0.6952, "ctcvr.auc": 0.6748})


def configure(config: Config) -> Config:
    return variants.dcrnn(config, cell="gru", bidirectional=True, adaptation=False)
