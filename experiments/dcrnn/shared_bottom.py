"""Control of Table 1: one MLP for all tasks, a tower for each."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("shared-bottom")


def configure(config: Config) -> Config:
    return variants.rival(config, "shared_bottom")
