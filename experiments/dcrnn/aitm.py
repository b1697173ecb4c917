"""Control of Table 1: information handed down the funnel, with its calibrator."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config

ROW = Row("AITM")


def configure(config: Config) -> Config:
    return variants.rival(config, "aitm")
