"""Table 1: DCRNN's cells against MMoE, one of its size, and the other rivals."""

from experiments.analysis import tables
from experiments.dcrnn import (
    aitm,
    bigru_ada,
    bilstm_ada,
    cross_stitch,
    esmm,
    gru_ada,
    lstm_ada,
    mmoe,
    mmoe_matched,
    omoe,
    ple,
    shared_bottom,
)

ROWS = (
    mmoe,
    gru_ada,
    bigru_ada,
    lstm_ada,
    bilstm_ada,
    mmoe_matched,
    omoe,
    shared_bottom,
    ple,
    cross_stitch,
    esmm,
    aitm,
)
run = tables.write
