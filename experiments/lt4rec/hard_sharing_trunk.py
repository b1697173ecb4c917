"""Control of Table 2: embeddings and MLP trunk shared, heads apart.

Sparse sharing with the dense mask for both tasks: what the masks change is the
difference to this row.
"""

from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("hard sharing (trunk)")


def configure(config: Config) -> Config:
    return config
