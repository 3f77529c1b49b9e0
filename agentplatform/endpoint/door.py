"""Who may ask what. Before any of a body is read.

Agents of this machine can connect too (the jail leaves them the network), and so can web pages in its user's browser:
who has not the token is nobody, wherever it comes from.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from agentplatform.endpoint.outcome import Refused
from ledger import keyfile
from ledger.errors import Misuse

TOKEN_BYTES = 32
MIN_TOKEN = 20  # characters of one that an operator made up
MAX_TOKEN = 512


def load_or_create(path: Path) -> str:
    """The token of a host's endpoint; a fresh one at the first use. Raises Misuse for a file that is open to others, or
    holds none."""
    if not path.exists():
        keyfile.write_new(path, secrets.token_hex(TOKEN_BYTES).encode())
    try:
        token = keyfile.read(path).decode("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if not MIN_TOKEN <= len(token) <= MAX_TOKEN or not token.isprintable() or " " in token:
        raise Misuse(
            f"{path} holds no token of {MIN_TOKEN} to {MAX_TOKEN} visible ASCII characters; delete it, and start again"
        )
    return token


class Door:
    def __init__(self, token: str, public: Collection[str], names: Collection[str]) -> None:
        self._token, self._public, self._names = token.encode(), frozenset(public), frozenset(map(str.lower, names))

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises Refused for what a web page sends, by its own name or by one that it has pointed here."""
        if "Origin" in headers:
            raise Refused(403, "unauthorised", "requests of web pages are not taken")
        if not self._is_ours(headers.get("Host", "")):
            raise Refused(421, "unauthorised", "this host is not called so: use its address, or set http.names")

    def _is_ours(self, host: str) -> bool:
        """By a name that others can point here (DNS rebinding) only if the operator says so."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name in self._names:
            return True
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def has_token(self, headers: Mapping[str, str]) -> bool:
        """False for who shows none. Raises Refused for a wrong one."""
        said = headers.get("Authorization")
        if said is None:
            return False
        scheme, _, token = said.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(errors="replace"), self._token):
            raise _unauthorised("the token is not that of this host")
        return True

    def check(self, trusted: bool, service: str | None, kind: str) -> None:
        """Raises Refused for who has not the token, unless anybody may ask that of the service (None: of none)."""
        if trusted or (service is not None and not self._public.isdisjoint((service, f"{service}/{kind}"))):
            return
        raise _unauthorised("say Authorization: Bearer TOKEN; it is shown by: agentplatform token")


def _unauthorised(message: str) -> Refused:
    return Refused(401, "unauthorised", message, WWW_Authenticate="Bearer")
