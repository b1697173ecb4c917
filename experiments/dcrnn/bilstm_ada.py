"""Tables 1 and 2, row `DCRNN+BiLSTM+Ada`. Paper: click 0.6995, valid play 0.6804."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+BiLSTM+Ada", {"ctr.auc": 0.6995, "ctcvr.auc": 0.6804})


def configure(config: Config) -> Config:
    return variants.dcrnn(config, cell="lstm", bidirectional=True, adaptation=True)
