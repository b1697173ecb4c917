"""Rival of Table 2: MMoE, which the paper cites and does not measure.

Section 1 says of ESMM and MMoE that their "initial performance is worse than the
single task learning if there is no careful tuning".
"""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("mmoe")


def configure(config: Config) -> Config:
    return variants.rival(config, "mmoe")
