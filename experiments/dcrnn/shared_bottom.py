"""Control of Table 1: one MLP for all tasks, a tower for each."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config

ROW = Row("shared-bottom")


def configure(config: Config) -> Config:
    return variants.rival(config, "shared_bottom")
