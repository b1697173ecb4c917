"""Table 2, `s-weight-multiview`. Paper: CVR MSE 0.13242, CTR AUC 0.78762.

Eight further embedding dimensions of the CVR's own beside the shared ones.
"""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight-multiview", {"cvr.mse": 0.13242, "ctr.auc": 0.78762})


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    model = replace(config.model, own_dims=(("cvr", 8),))
    return replace(config, model=model)
