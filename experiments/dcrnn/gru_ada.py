"""Tables 1 and 2, row `DCRNN+GRU+Ada`. Paper: click 0.6986, valid play 0.6938."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config

ROW = Row("DCRNN+GRU+Ada", {"ctr.auc": 0.6986, "ctcvr.auc": 0.6938})


def configure(config: Config) -> Config:
    return variants.dcrnn(config, cell="gru", bidirectional=False, adaptation=True)
