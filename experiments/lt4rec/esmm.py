"""Rival of Table 2: ESMM, which learns the CVR as a factor of the CTCVR.

It cannot alternate tasks, as the CVR is learned through the CTR; it trains on the sum
of log losses over all impressions, a watch ratio's with soft labels (Ma et al., eq. 3).
"""

from dataclasses import replace

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("esmm")


def configure(config: Config) -> Config:
    config = variants.rival(config, "esmm")
    return replace(config, training=replace(config.training, schedule="sum"))
