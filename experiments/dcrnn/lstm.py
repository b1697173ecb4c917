"""Table 2, row `DCRNN+LSTM`. Paper: click 0.6940, valid play 0.6827."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+LSTM", {"ctr.auc": 0.6940, "ctcvr.auc": 0.6827})


def configure(config: Config) -> Config:
    return variants.dcrnn(config, cell="lstm", bidirectional=False, adaptation=False)
