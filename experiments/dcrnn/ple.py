"""Control of Table 1: progressive layered extraction, 2 levels."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config

ROW = Row("PLE")


def configure(config: Config) -> Config:
    return variants.rival(config, "ple")
