"""Table 4, row `MMoE`. Paper: click 0.5962, conversion 0.6530 (means)."""

from experiments.dcrnn import mmoe
from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row(
    "MMoE",
    {
        "ctr.auc": 0.5962,
        "ctr.auc best": 0.5991,
        "ctcvr.auc": 0.6530,
        "ctcvr.auc best": 0.6545,
    },
)


def configure(config: Config) -> Config:
    return mmoe.configure(variants.ali_ccp(config))
