"""Every architecture with a net of some dozen weights; a new one has its defaults."""

from jaxmtl import discovery, models

SMALL = {
    "shared_trunk": models.SharedTrunk((5,)),
    "hard_sharing": models.HardSharing((5,)),
    "shared_bottom": models.SharedBottom(hidden=(5,), tower=(3,)),
    "mmoe": models.Mmoe(experts=2, expert_hidden=(5,), tower=(3,)),
    "omoe": models.Omoe(experts=2, expert_hidden=(5,), tower=(3,)),
    "ple": models.Ple(levels=2, expert_hidden=(4,), tower=(3,)),
    "cross_stitch": models.CrossStitch(hidden=(5,)),
    "esmm": models.Esmm(hidden=(5,)),
    "aitm": models.Aitm(hidden=(5,)),
    "dcrnn": models.Dcrnn(length=2, interval=1, hidden=3, tower=(3,)),
}
NETS = {
    name: SMALL.get(name, kind())
    for name, kind in discovery.all_options("jaxmtl.models").items()
}
