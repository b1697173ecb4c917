"""Open choice of the DCRNN: the tower reads all steps' outputs."""

from experiments.dcrnn import bilstm_ada
from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+BiLSTM+Ada (concat)")


def configure(config: Config) -> Config:
    return variants.dcrnn(bilstm_ada.configure(config), readout="concat")
