"""Table 2, row `DCRNN+BiLSTM`. Paper: click 0.6961, valid play 0.6764."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+BiLSTM", {"ctr.auc": 0.6961, "ctcvr.auc": 0.6764})


def configure(config: Config) -> Config:
    return variants.dcrnn(config, cell="lstm", bidirectional=True, adaptation=False)
