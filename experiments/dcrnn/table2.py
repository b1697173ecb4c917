"""Table 2: every cell with and without the feature adaptive function."""

from experiments.analysis import tables
from experiments.dcrnn import (
    bigru,
    bigru_ada,
    bilstm,
    bilstm_ada,
    gru,
    gru_ada,
    lstm,
    lstm_ada,
    mmoe,
    mmoe_matched,
)

ROWS = (
    bigru,
    bigru_ada,
    bilstm,
    bilstm_ada,
    gru,
    gru_ada,
    lstm,
    lstm_ada,
    mmoe,
    mmoe_matched,
)
run = tables.write
