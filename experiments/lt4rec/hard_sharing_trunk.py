"""Control of Table 2: embeddings and MLP trunk shared, heads apart.

Sparse sharing with the dense mask for both tasks: what the masks change is the
difference to this row.
"""

from experiments.ablation import Preset, Row
from experiments.config import Config
from experiments.lt4rec import base

ROW = Row("hard sharing (trunk)")


def configure(preset: Preset) -> Config:
    config = base.configure(preset)
    return config
