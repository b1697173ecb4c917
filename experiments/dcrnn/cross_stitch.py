"""Control of Table 1: a column for each task, mixed layer by layer."""

from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import variants

ROW = Row("cross-stitch")


def configure(config: Config) -> Config:
    return variants.rival(config, "cross_stitch")
