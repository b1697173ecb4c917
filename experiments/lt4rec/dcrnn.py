"""Rival of Table 2: DCRNN with a bidirectional LSTM and adaptation."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config

ROW = Row("dcrnn")


def configure(config: Config) -> Config:
    return variants.dcrnn(config, cell="lstm", bidirectional=True, adaptation=True)
