"""Control of Table 1: a mixture of experts with one gate for all tasks."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config

ROW = Row("OMoE")


def configure(config: Config) -> Config:
    return variants.rival(config, "omoe")
