"""Control of Table 1: information handed down the funnel, with its calibrator."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("AITM")


def configure(config: Config) -> Config:
    return variants.rival(config, "aitm")
