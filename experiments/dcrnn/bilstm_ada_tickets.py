"""DCRNN × LT4REC: each task's lottery ticket over a DCRNN, RNN and towers masked."""

from experiments.dcrnn import bilstm_ada
from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+BiLSTM+Ada, tickets")


def configure(config: Config) -> Config:
    return variants.tickets(bilstm_ada.configure(config))
