"""Control of Table 1: the joint event as a product of probabilities."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config

ROW = Row("ESMM")


def configure(config: Config) -> Config:
    return variants.product(variants.rival(config, "esmm"))
