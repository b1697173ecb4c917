"""Tables 1 and 2, row `DCRNN+LSTM+Ada`. Paper: click 0.6972, valid play 0.6949."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+LSTM+Ada", {"ctr.auc": 0.6972, "ctcvr.auc": 0.6949})


def configure(config: Config) -> Config:
    return variants.dcrnn(config, cell="lstm", bidirectional=False, adaptation=True)
