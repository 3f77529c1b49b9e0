"""What a Byzantine member may be, by name. Some of each are drawn in every life."""

from ledger.simulation.adversaries import Adversary, Equivocator, Forgetter, Withholder
from ledger.simulation.liars import Flooder, Forger, Impostor, LateDater, Usurper
from ledger.simulation.primaries import Blunderer, Censor, Sluggard

ADVERSARIES: dict[str, type[Adversary]] = {
    "equivocator": Equivocator,
    "withholder": Withholder,
    "blunderer": Blunderer,
    "censor": Censor,
    "sluggard": Sluggard,
    "forgetter": Forgetter,
    "forger": Forger,
    "usurper": Usurper,
    "impostor": Impostor,
    "late-dater": LateDater,
    "flooder": Flooder,
}

DOUBLED = "doubled"
"""Two copies of honest code under one key, each talking to some of the others (the idea is that of Twins, Bano et al.).
No class of its own: see World.doubled."""
