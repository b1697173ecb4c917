"""Control of Table 1: the joint event as a product of probabilities."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("ESMM")


def configure(config: Config) -> Config:
    return variants.product(variants.rival(config, "esmm"))
