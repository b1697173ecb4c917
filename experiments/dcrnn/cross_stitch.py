"""Control of Table 1: a column for each task, mixed layer by layer."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("cross-stitch")


def configure(config: Config) -> Config:
    return variants.rival(config, "cross_stitch")
