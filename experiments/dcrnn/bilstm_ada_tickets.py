"""DCRNN × LT4REC: each task's lottery ticket over a DCRNN, RNN and towers masked."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import bilstm_ada

ROW = Row("DCRNN+BiLSTM+Ada, tickets")


def configure(config: Config) -> Config:
    return variants.tickets(bilstm_ada.configure(config))
