"""Control of Table 1: a column for each task, mixed layer by layer."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config

ROW = Row("cross-stitch")


def configure(config: Config) -> Config:
    return variants.rival(config, "cross_stitch")
