"""The policies, by name. A new one is a file here and a row in this table; `benchmarks decide` ranks it."""

from services.eds.offers import Policy
from services.eds.policies.always_best import AlwaysBest
from services.eds.policies.falcon import Falcon
from services.eds.policies.greedy import Greedy
from services.eds.policies.nearest import Nearest
from services.eds.policies.never_move import NeverMove

POLICIES: dict[str, type[Policy]] = {
    "falcon": Falcon,
    "greedy": Greedy,
    "nearest": Nearest,
    "always-best": AlwaysBest,
    "never-move": NeverMove,
}
