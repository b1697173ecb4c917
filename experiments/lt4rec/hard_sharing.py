"""Table 2, row `hard sharing`. Paper: CVR MSE 0.13563, CTR AUC 0.78808.

Figure 2: embeddings and crosses shared, an MLP for each task.
"""

from dataclasses import replace

from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("hard sharing", {"cvr.mse": 0.13563, "ctr.auc": 0.78808})


def configure(config: Config) -> Config:
    model = replace(config.model, architecture="hard_sharing")
    return replace(config, model=model)
