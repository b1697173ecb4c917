"""Table 4, row `DCRNN+BiLSTM+Ada`. Paper: click 0.6064, conversion 0.6634 (means)."""

from experiments.dcrnn import bilstm_ada
from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row(
    "DCRNN+BiLSTM+Ada",
    {
        "ctr.auc": 0.6064,
        "ctr.auc best": 0.6076,
        "ctcvr.auc": 0.6634,
        "ctcvr.auc best": 0.6641,
    },
)


def configure(config: Config) -> Config:
    return bilstm_ada.configure(variants.ali_ccp(config))
