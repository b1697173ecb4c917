"""Control of Table 1: a mixture of experts with one gate for all tasks."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("OMoE")


def configure(config: Config) -> Config:
    return variants.rival(config, "omoe")
