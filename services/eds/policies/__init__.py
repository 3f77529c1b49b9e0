"""The policies, by name. A new one is a file here and a row in this table."""

from services.eds.offers import Policy
from services.eds.policies.falcon import Falcon

POLICIES: dict[str, type[Policy]] = {
    "falcon": Falcon,
}
