"""Tables 1 and 2, row `DCRNN+GRU+Ada`. Paper: click 0.6986, valid play 0.6938."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+GRU+Ada", {"ctr.auc": 0.6986, "ctcvr.auc": 0.6938})


def configure(config: Config) -> Config:
    return variants.dcrnn(config, cell="gru", bidirectional=False, adaptation=True)
