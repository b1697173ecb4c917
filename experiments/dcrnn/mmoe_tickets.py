"""MMoE × LT4REC: each task's lottery ticket over the experts and its tower."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import mmoe

ROW = Row("MMoE, tickets")


def configure(config: Config) -> Config:
    return variants.tickets(mmoe.configure(config))
