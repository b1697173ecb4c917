"""Control of Table 2: moments for each task, where s-weight has one set for both."""

from dataclasses import replace

from experiments.lt4rec import s_weight
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("s-weight (moments a task)")


def configure(config: Config) -> Config:
    config = s_weight.configure(config)
    optimiser = replace(config.optimiser, moving="per_task")
    return replace(config, optimiser=optimiser)
