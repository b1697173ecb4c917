"""Table 4, row `DCRNN+BiLSTM`. Paper: click 0.6067, conversion 0.6635 (means)."""

from experiments.dcrnn import bilstm
from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row(
    "DCRNN+BiLSTM",
    {
        "ctr.auc": 0.6067,
        "ctr.auc best": 0.6068,
        "ctcvr.auc": 0.6635,
        "ctcvr.auc best": 0.6645,
    },
)


def configure(config: Config) -> Config:
    return bilstm.configure(variants.ali_ccp(config))
