"""Open choice of the DCRNN: twice the hidden size."""

from experiments.dcrnn import bilstm_ada
from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+BiLSTM+Ada (double)")


def configure(config: Config) -> Config:
    hidden = config.model.dcrnn.hidden * 2
    return variants.dcrnn(bilstm_ada.configure(config), hidden=hidden)
