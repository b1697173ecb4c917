"""Table 2, `s-weight-biggernet`. Paper: CVR MSE 0.13251, CTR AUC 0.78525.

Every layer of the MLP twice as wide; the paper gives no size.
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight-biggernet", {"cvr.mse": 0.13251, "ctr.auc": 0.78525})


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    hidden = tuple(2 * width for width in config.model.hidden)
    return replace(config, model=replace(config.model, hidden=hidden))
