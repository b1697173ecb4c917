"""MMoE × LT4REC: each task's lottery ticket over the experts and its tower."""

from experiments.dcrnn import mmoe
from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("MMoE, tickets")


def configure(config: Config) -> Config:
    return variants.tickets(mmoe.configure(config))
