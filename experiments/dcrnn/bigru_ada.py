"""Tables 1 and 2, row `DCRNN+BiGRU+Ada`. Paper: click 0.6961, valid play 0.6883."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+BiGRU+Ada", {"ctr.auc": 0.6961, "ctcvr.auc": 0.6883})


def configure(config: Config) -> Config:
    return variants.dcrnn(config, cell="gru", bidirectional=True, adaptation=True)
