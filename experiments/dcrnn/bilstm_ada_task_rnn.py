"""Open choice of the DCRNN: an RNN for each task; windows share only the A_t."""

from experiments.dcrnn import bilstm_ada
from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+BiLSTM+Ada (an RNN a task)")


def configure(config: Config) -> Config:
    return variants.dcrnn(bilstm_ada.configure(config), sharing="task_rnn")
