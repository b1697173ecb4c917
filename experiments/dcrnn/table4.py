"""Table 4: the Ali-CCP set-up, L = 3, I = 1 and 3 epochs; best and mean over seeds."""

from experiments.analysis import tables
from experiments.dcrnn import (
    ali_ccp_bilstm,
    ali_ccp_bilstm_ada,
    ali_ccp_mmoe,
    ali_ccp_mmoe_matched,
)
from experiments.settings.layout import DCRNN

ROWS = (ali_ccp_mmoe, ali_ccp_bilstm, ali_ccp_bilstm_ada, ali_ccp_mmoe_matched)
LAYOUT = DCRNN._replace(
    baselines={"mmoe": "ali_ccp_mmoe", "matched": "ali_ccp_mmoe_matched"},
    has_best=True,
)
run = tables.write
