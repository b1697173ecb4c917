"""Control of Table 1: progressive layered extraction, 2 levels."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("PLE")


def configure(config: Config) -> Config:
    return variants.rival(config, "ple")
